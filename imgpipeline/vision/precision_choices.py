"""Says which device, backend and precision a detector uses, and why it uses no other one."""

import importlib.util

from imgpipeline.vision.backends import NARROW_BACKEND
from imgpipeline.vision.detector import Detector


def describe_use(detector: Detector) -> str:
    """Returns, in one sentence for each precision, what a detector computes in and what it could compute in."""
    others = {"bf16": _bf16(detector), "int8": _int8(detector), "fp16": "needs a GPU, and models run on the CPU"}
    said = [f"{name}: {why}" for name, why in others.items() if name != detector.precision]
    return f"runs in {detector.backend_name} on the CPU, in {detector.precision}{_why(detector)}. " + "; ".join(said)


def _why(detector: Detector) -> str:
    return f", chosen by IMGPIPELINE_PRECISION=auto ({detector.chosen_because})" if detector.chosen_because else ""


def _bf16(detector: Detector) -> str:
    if detector.precision == "int8":
        return "not for a quantized model"
    if importlib.util.find_spec(NARROW_BACKEND) is None:
        return f"needs the package {NARROW_BACKEND}"
    from imgpipeline.vision.backends.openvino_backend import missing_bf16  # noqa: PLC0415 - the package is optional

    return missing_bf16() or "possible with IMGPIPELINE_PRECISION=bf16"


def _int8(detector: Detector) -> str:
    return f"needs a quantized model (imgpipeline models quantize {detector.model_name} --images DIR)"
