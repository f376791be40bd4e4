"""Inference backends, one file each; chosen by name. A backend knows nothing of images, labels or boxes."""

import importlib.util
import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.precision import Precision

BACKENDS: Final = ("cuda", "onnxruntime", "openvino", "opencv")
"""All backends, the fastest first. Measured on an x86-64 server, in exact 32-bit floats, with one thread and with two:
yolox-nano takes 14 to 17 ms per picture in ONNX Runtime, 15 to 20 in OpenVINO, and 18 to 23 in OpenCV; the demo model
4, 5 and 8 ms. `cuda` was not measured. The order is fixed, so a machine never changes its results because of a
measurement. If another backend is faster, `imgpipeline models tune` shows it, and IMGPIPELINE_MODEL_BACKEND chooses
it."""

NARROW_BACKEND: Final = "openvino"
"""The backend that is fast in bf16 and int8 on a CPU."""
GPU_BACKEND: Final = "cuda"
"""The backend that runs on a GPU."""
_ONLY_BACKEND: Final[Mapping[Precision, str]] = {"bf16": NARROW_BACKEND, "fp16": GPU_BACKEND}
"""Precisions that a single backend computes in."""
_PACKAGES: Final = {"openvino": "openvino", "onnxruntime": "onnxruntime", "opencv": "cv2"}
_CLASSES: Final = {
    "cuda": ("onnxruntime_backend", "CudaBackend"),
    "onnxruntime": ("onnxruntime_backend", "OnnxRuntimeBackend"),
    "openvino": ("openvino_backend", "OpenVINOBackend"),
    "opencv": ("opencv_backend", "OpenCVBackend"),
}
"""The module and class of each backend; `ERRORS` of the module is what the class raises for a model it cannot read."""
_HOW_TO_INSTALL: Final = {GPU_BACKEND: "see docs/models.md#gpu", NARROW_BACKEND: "pip install 'imgpipeline[openvino]'"}


class InferenceBackend(Protocol):
    """A loaded network.

    Guarantees:
        `infer` may be called from several threads at once; the same blob always gives the same output.
    """

    @property
    def name(self) -> str:
        """The backend's name, as in `IMGPIPELINE_MODEL_BACKEND`."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the order in which `infer` returns them."""

    def infer(self, blob: Floats) -> list[Floats]:
        """Runs the network.

        Args:
            blob: float32 [1, 3, height, width], contiguous, of the network's declared size.

        Returns:
            Every output, float32, in the order in which the model declares them. The caller may keep them.

        Raises:
            PermanentError: The network cannot be run.
        """


def installed_backends() -> tuple[str, ...]:
    """Returns the backends that this machine can run, the fastest first, without importing them."""
    return tuple(name for name in BACKENDS if _missing(name) is None)


def missing_gpu() -> str | None:
    """Returns what this machine lacks to run models on a GPU; None if it has the package, a GPU and its driver."""
    try:
        metadata.version("onnxruntime-gpu")
    except metadata.PackageNotFoundError:
        return "the package onnxruntime-gpu is not installed"
    has_gpu = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()  # the second one: WSL
    return None if has_gpu else "there is no NVIDIA GPU, or its driver is not loaded (/dev/nvidia0)"


def _missing(name: str) -> str | None:
    if name == GPU_BACKEND:
        return missing_gpu()
    has_package = importlib.util.find_spec(_PACKAGES[name]) is not None
    return None if has_package else f"the package {_PACKAGES[name]} is not installed"


def open_backend(
    name: str, model: bytes, *, threads: int | None = None, precision: Precision = "fp32"
) -> InferenceBackend:
    """Loads a network into a backend.

    Args:
        name: One of `BACKENDS`, or `auto` for the fastest installed one in `precision`.
        model: The bytes of an ONNX file.
        threads: CPU threads per picture; None: the backend's default.
        precision: For `bf16` and `fp16`, floating-point layers compute in it, otherwise in 32-bit floats.

    Raises:
        ConfigurationError: The name is unknown, the backend cannot run on this machine, or it does not compute in
            `precision`.
        PermanentError: The backend cannot read the model.
    """
    if name == "auto":
        name = _fastest(precision)
    if name not in BACKENDS:
        known = ", ".join(("auto", *BACKENDS))
        raise ConfigurationError(
            f"There is no inference backend {name!r}; known are {known}.", next_step="set IMGPIPELINE_MODEL_BACKEND"
        )
    only = _ONLY_BACKEND.get(precision, name)
    if name != only:
        raise ConfigurationError(
            f"IMGPIPELINE_PRECISION is {precision}, which the backend {name} does not compute in; {only} does.",
            next_step=f"set IMGPIPELINE_MODEL_BACKEND to auto or {only}, or IMGPIPELINE_PRECISION to fp32",
        )
    if missing := _missing(name):
        asked = (
            f"IMGPIPELINE_PRECISION is {precision}"
            if precision in _ONLY_BACKEND
            else f"IMGPIPELINE_MODEL_BACKEND is {name!r}"
        )
        otherwise = "IMGPIPELINE_PRECISION to fp32" if precision in _ONLY_BACKEND else "IMGPIPELINE_MODEL_BACKEND=auto"
        raise ConfigurationError(
            f"{asked}, but {missing}.", next_step=f"{_HOW_TO_INSTALL.get(name, 'install it')}, or set {otherwise}"
        )
    module_name, class_name = _CLASSES[name]
    module = importlib.import_module(f"imgpipeline.vision.backends.{module_name}")
    try:
        backend: InferenceBackend = getattr(module, class_name)(model, threads, precision)
    except module.ERRORS as error:
        raise PermanentError(
            f"The backend {name} cannot read the model: {_shortened(error)}",
            next_step="check that the file is an ONNX model, or try another IMGPIPELINE_MODEL_BACKEND",
        ) from error
    return backend


def _fastest(precision: Precision) -> str:
    """Returns the fastest backend; for bf16 and fp16, the only one that supports it, even if it is not installed.

    A quantized model runs on the CPU: CUDA has no kernels for most int8 operators. ONNX Runtime computes a convolution
    in int8 only if its output is quantized as well, which costs accuracy, so OpenVINO goes first.
    """
    installed = installed_backends()
    if precision == "int8":
        return NARROW_BACKEND if NARROW_BACKEND in installed else next(n for n in installed if n != GPU_BACKEND)
    return _ONLY_BACKEND.get(precision, installed[0])


def failed(name: str, reason: object) -> PermanentError:
    """Returns the error for a network that cannot be run, with the backend's own message."""
    return PermanentError(
        f"The backend {name} failed to run the model: {_shortened(reason)}",
        next_step="imgpipeline doctor, or try another IMGPIPELINE_MODEL_BACKEND",
    )


def _shortened(reason: object) -> str:
    return str(reason).strip()[:500]


def usable_cores() -> int:
    """Returns the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not available on every system
        return os.cpu_count() or 1
