"""Inference backends: one file each, behind the protocol in `base`; chosen by name.

A backend knows nothing of images, labels or boxes.
"""

import importlib.util
from typing import Final

from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.backends.base import InferenceBackend
from imgpipeline.vision.precision import Precision

BACKENDS: Final = ("onnxruntime", "openvino", "opencv")
"""All backends, the fastest first. Measured with `bench` on an x86-64 server, in exact 32-bit floats, with one
thread and with two: yolox-nano 14 to 17, 15 to 20 and 18 to 23 ms a picture, the demo model 4, 5 and 8 ms. The
order is fixed, so that a machine never changes its results by a measurement; where another backend is faster,
`imgpipeline models bench` shows it and IMGPIPELINE_MODEL_BACKEND chooses it."""

NARROW_BACKEND: Final = "openvino"
"""The backend that is fast in bf16 and int8 on a processor; no other one computes in bf16."""
_MODULES: Final = {"openvino": "openvino", "onnxruntime": "onnxruntime", "opencv": "cv2"}


def installed_backends() -> tuple[str, ...]:
    """Lists the backends whose packages are installed, the fastest first; nothing is imported for it."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(_MODULES[name]) is not None)


def open_backend(
    name: str, model: bytes, *, threads: int | None = None, precision: Precision = "fp32"
) -> InferenceBackend:
    """Loads a network into a backend.

    Args:
        name: `opencv`, `onnxruntime`, `openvino`, or `auto` for the fastest installed one in `precision`.
        model: The bytes of an ONNX file.
        threads: Threads a picture; None: the backend's own choice.
        precision: What its floating-point layers compute in is bf16 or, for all else, 32-bit floats.

    Returns:
        The loaded backend.

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
            f"No inference backend is called {name!r}; known are {known}.", next_step="set IMGPIPELINE_MODEL_BACKEND"
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
    """Returns the fastest backend; bf16 names the one that has it, whether or not it is installed.

    ONNX Runtime computes a convolution in int8 only if its output is quantized too, which costs accuracy.
    """
    if precision == "bf16" or (precision == "int8" and NARROW_BACKEND in installed):
        return NARROW_BACKEND
    return installed[0]
