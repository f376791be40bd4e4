"""ONNX Runtime on an NVIDIA GPU, in 32-bit or 16-bit floats. Needs the package `onnxruntime-gpu`, CUDA and cuDNN."""

import warnings
from typing import Final

import onnx
import onnxruntime
from onnxruntime.transformers.float16 import convert_float_to_float16

from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.backends import unreadable
from imgpipeline.vision.backends.onnxruntime_backend import ERRORS, OnnxRuntimeBackend
from imgpipeline.vision.precision import Precision

_PROVIDER: Final = "CUDAExecutionProvider"
_OPTIONS: Final = {
    "use_tf32": "0",  # fp32 means 32-bit floats, as on a CPU
    # The default times the algorithms, and so could choose another one, with other results, at each start.
    "cudnn_conv_algo_search": "HEURISTIC",
}


class CudaBackend(OnnxRuntimeBackend):
    """A network in ONNX Runtime on the first visible GPU (`CUDA_VISIBLE_DEVICES`)."""

    name = "cuda"

    def __init__(self, model: bytes, threads: int | None) -> None:
        """Loads the network.

        Raises:
            ConfigurationError: ONNX Runtime cannot use the GPU.
        """
        with warnings.catch_warnings():  # the error below says it
            warnings.filterwarnings("ignore", message="Specified provider")
            super().__init__(model, threads, (_PROVIDER, _OPTIONS))
        # If a library is missing, ONNX Runtime falls back to the CPU, and a run would be slow for no visible reason.
        if _PROVIDER not in self._session.get_providers():
            raise ConfigurationError(
                "ONNX Runtime cannot use the GPU. Either libraries of CUDA or cuDNN are missing or too old, or the "
                "package onnxruntime, installed later, has replaced the files of onnxruntime-gpu.",
                next_step="see docs/models.md#gpu, or set IMGPIPELINE_MODEL_BACKEND=onnxruntime",
            )


def open_model(model: bytes, *, threads: int | None, precision: Precision = "fp32") -> CudaBackend:
    """Loads a network.

    Args:
        model: The bytes of an ONNX file.
        threads: CPU threads for the operators that have no CUDA kernel; None: as many as there are cores.
        precision: What it computes in: fp16, otherwise 32-bit floats.

    Raises:
        ConfigurationError: ONNX Runtime cannot use the GPU.
        PermanentError: The model cannot be read.
    """
    if _PROVIDER in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()  # finds CUDA and cuDNN where pip has installed them
    try:
        return CudaBackend(in_half_precision(model) if precision == "fp16" else model, threads)
    except ERRORS as error:
        raise unreadable("cuda", error) from error


def in_half_precision(model: bytes) -> bytes:
    """Returns a model whose layers compute in 16-bit floats; its inputs and outputs stay in 32-bit floats."""
    converted: bytes = convert_float_to_float16(onnx.load_from_string(model), keep_io_types=True).SerializeToString()
    return converted
