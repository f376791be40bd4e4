"""The number formats that models compute in, and where each is supported.

32-bit floats are the default and always work. bfloat16 halves the width of every number and needs a CPU that supports
it. 16-bit floats (fp16) need a GPU. 8-bit integers need a quantized model.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from imgpipeline.errors import ConfigurationError

Precision = Literal["fp32", "bf16", "int8", "fp16"]
"""What a model computes in."""

_QUANTIZED: Final = re.compile(rb"[Qq]uantizeLinear|QLinearConv|QLinearMatMul|ConvInteger|MatMulInteger")
"""Operators that only quantized ONNX files have; the file contains their names as plain text."""
MOST_WEIGHT: Final = 64
"""Largest size of an 8-bit weight. Processors without VNNI instructions add the products of two inputs (0 to 255) and
weights in 16 bits and cut off larger sums; 2 * 255 * 64 fits. With 127, results would depend on the processor."""
_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})
"""Flags of /proc/cpuinfo: x86-64, and `bf16` of 64-bit ARM."""


def choose_precision(asked: Precision, model: bytes, name: str) -> Precision:
    """Returns what a model computes in.

    Args:
        asked: The setting; `fp32` leaves a quantized model unchanged.
        model: The bytes of its ONNX file.

    Raises:
        ConfigurationError: The model cannot compute in it, or its results would depend on the processor.
    """
    is_quantized = _QUANTIZED.search(model) is not None
    if is_quantized and _has_wide_weights(model):
        raise ConfigurationError(
            f"The model {name!r} is quantized with weights beyond ±{MOST_WEIGHT}: results depend on the processor.",
            next_step="quantize the model in 32-bit floats: imgpipeline models quantize MODEL --images DIR",
        )
    if asked == "int8" and not is_quantized:
        raise ConfigurationError(
            f"IMGPIPELINE_PRECISION is int8, but the model {name!r} is not quantized.",
            next_step=f"imgpipeline models quantize {name} --images DIR, then set IMGPIPELINE_MODEL to the new model",
        )
    if asked in ("bf16", "fp16") and is_quantized:
        raise ConfigurationError(
            f"IMGPIPELINE_PRECISION is {asked}, but the model {name!r} is quantized: it computes in int8.",
            next_step="unset IMGPIPELINE_PRECISION, or set IMGPIPELINE_MODEL to the model that it was made from",
        )
    return "int8" if is_quantized else asked


def _has_wide_weights(model: bytes) -> bool:
    import onnx  # noqa: PLC0415 - only for quantized models

    graph = onnx.load_from_string(model).graph
    weights = (onnx.numpy_helper.to_array(one) for one in graph.initializer if one.data_type == onnx.TensorProto.INT8)
    return any(abs(one.astype(int)).max(initial=0) > MOST_WEIGHT for one in weights if one.ndim > 1)


def bf16_problem(flags: Iterable[str], capabilities: Iterable[str]) -> str | None:
    """Returns why a CPU does not compute in bfloat16; None if it does.

    OpenVINO also lists BF16 for CPUs that only emulate it, slower than 32-bit floats. So flags and capabilities must
    both contain it.

    Args:
        flags: From `cpu_flags`; if they are empty (unknown), OpenVINO decides.
        capabilities: OpenVINO's `OPTIMIZATION_CAPABILITIES`.
    """
    known = set(flags)
    if known and not known & _BF16_FLAGS:
        return f"this processor does not compute in bf16 (it has none of {', '.join(sorted(_BF16_FLAGS))})"
    if "BF16" not in set(capabilities):
        return "OpenVINO does not compute in bf16 on this processor"
    return None


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Returns the CPU features that the kernel reports; empty where it reports none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()
