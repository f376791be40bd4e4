"""Inference backends, one file each; chosen by name. A backend knows nothing of images, labels or boxes."""

import importlib.util
import os
from typing import Final, Protocol

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.vision.decoders import Floats
from imgpipeline.vision.precision import Precision

BACKENDS: Final = ("onnxruntime", "openvino", "opencv")
"""All backends, the fastest first. Measured with `models bench` on an x86-64 server, in exact 32-bit floats, with one
thread and with two: yolox-nano 14 to 17, 15 to 20 and 18 to 23 ms per picture, the demo model 4, 5 and 8 ms. The order
is fixed, so a machine never changes its results because of a measurement. If another backend is faster, `imgpipeline
models bench` shows it, and IMGPIPELINE_MODEL_BACKEND chooses it."""

NARROW_BACKEND: Final = "openvino"
"""The backend that is fast in bf16 and int8 on a CPU, and the only one that computes in bf16."""
_MODULES: Final = {"openvino": "openvino", "onnxruntime": "onnxruntime", "opencv": "cv2"}


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
    """Returns the backends whose packages are installed, the fastest first, without importing them."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(_MODULES[name]) is not None)


def open_backend(
    name: str, model: bytes, *, threads: int | None = None, precision: Precision = "fp32"
) -> InferenceBackend:
    """Loads a network into a backend.

    Args:
        name: `opencv`, `onnxruntime`, `openvino`, or `auto` for the fastest installed one in `precision`.
        model: The bytes of an ONNX file.
        threads: Threads per picture; None: the backend's default.
        precision: For `bf16`, floating-point layers compute in bf16, otherwise in 32-bit floats.

    Raises:
        ConfigurationError: The name is unknown, the backend's package is not installed, or it does not compute in
            `precision` on this machine.
        PermanentError: The backend cannot read the model.
    """
    installed = installed_backends()
    if name == "auto":
        name = _fastest(precision, installed)
    if name not in BACKENDS:
        known = ", ".join(("auto", *BACKENDS))
        raise ConfigurationError(
            f"There is no inference backend {name!r}; known are {known}.", next_step="set IMGPIPELINE_MODEL_BACKEND"
        )
    if precision == "bf16" and name != NARROW_BACKEND:
        raise ConfigurationError(
            f"IMGPIPELINE_PRECISION is bf16, which the backend {name} does not compute in; {NARROW_BACKEND} does.",
            next_step=f"set IMGPIPELINE_MODEL_BACKEND to auto or {NARROW_BACKEND}, or IMGPIPELINE_PRECISION to fp32",
        )
    if name not in installed:
        if precision == "bf16":
            raise ConfigurationError(
                f"IMGPIPELINE_PRECISION is bf16, but the package {_MODULES[name]} is not installed.",
                next_step="pip install 'imgpipeline[openvino]', or set IMGPIPELINE_PRECISION to fp32",
            )
        raise ConfigurationError(
            f"IMGPIPELINE_MODEL_BACKEND is {name!r}, but the package {_MODULES[name]} is not installed.",
            next_step="pip install 'imgpipeline[openvino]', or set IMGPIPELINE_MODEL_BACKEND=auto",
        )
    module = importlib.import_module(f"imgpipeline.vision.backends.{name}_backend")
    more = {"bf16": True} if precision == "bf16" else {}
    backend: InferenceBackend = module.open_model(model, threads=threads, **more)
    return backend


def _fastest(precision: Precision, installed: tuple[str, ...]) -> str:
    """Returns the fastest backend; for bf16, the only one that supports it, even if it is not installed.

    ONNX Runtime computes a convolution in int8 only if its output is quantized as well, which costs accuracy.
    """
    if precision == "bf16" or (precision == "int8" and NARROW_BACKEND in installed):
        return NARROW_BACKEND
    return installed[0]


def unreadable(name: str, reason: object) -> PermanentError:
    """Returns the error for a model that a backend cannot read, with the backend's own message."""
    return PermanentError(
        f"The backend {name} cannot read the model: {_shortened(reason)}",
        next_step="check that the file is an ONNX model, or try another IMGPIPELINE_MODEL_BACKEND",
    )


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
