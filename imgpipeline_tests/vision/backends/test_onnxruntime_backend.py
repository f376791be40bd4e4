"""The GPU backend on a machine without a GPU: what is refused and why, and the conversion to 16-bit floats."""

import numpy as np
import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings
from imgpipeline.vision.backends import GPU_BACKEND, missing_gpu, open_backend
from imgpipeline.vision.backends.onnxruntime_backend import CudaBackend, in_half_precision
from imgpipeline.vision.configured import describe_use, load_configured_detector
from imgpipeline.vision.registry import registered_model

REASON = "the package onnxruntime-gpu is not installed"


@pytest.fixture(autouse=True)
def no_gpu() -> None:
    if missing_gpu() != REASON:
        pytest.skip("these tests are for a machine without onnxruntime-gpu")


@pytest.mark.parametrize(
    ("backend", "precision", "said", "next_step"),
    [
        (GPU_BACKEND, "fp32", f"IMGPIPELINE_MODEL_BACKEND is 'cuda', but {REASON}", "IMGPIPELINE_MODEL_BACKEND=auto"),
        ("auto", "fp16", f"IMGPIPELINE_PRECISION is fp16, but {REASON}", "IMGPIPELINE_PRECISION to fp32"),
        ("openvino", "fp16", "fp16, which the backend openvino does not compute in; cuda does", "auto or cuda"),
    ],
)
def test_what_needs_a_gpu_is_refused_with_the_reason(backend, precision, said, next_step, demo):
    with pytest.raises(ConfigurationError, match=said) as caught:
        open_backend(backend, demo, precision=precision)
    assert next_step in (caught.value.next_step or "")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_session_that_falls_back_to_the_cpu_is_refused(precision, demo):
    """ONNX Runtime only warns then; a run would be slow for no visible reason."""
    with pytest.raises(ConfigurationError, match="ONNX Runtime cannot use the GPU") as caught:
        CudaBackend(demo, 1, precision)
    assert "models.md#gpu" in (caught.value.next_step or "")


def test_a_model_in_half_precision_takes_and_gives_32_bit_floats_and_nearly_the_same_numbers(demo):
    half = in_half_precision(demo)
    assert len(half) < 0.6 * len(demo)
    exact, rough = open_backend("onnxruntime", demo, threads=1), open_backend("onnxruntime", half, threads=1)
    spec = registered_model("demo")
    blob = np.random.default_rng(3).random((1, 3, spec.input_height, spec.input_width), np.float32)
    [expected], [found] = exact.infer(blob), rough.infer(blob)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert not np.array_equal(found, expected)


def test_doctor_says_which_device_is_used_and_why_neither_a_gpu_nor_another_precision():
    said = describe_use(load_configured_detector(load_settings()))
    assert said.startswith("runs in onnxruntime on the CPU, in fp32. bf16: ")
    assert "models quantize demo" in said
    assert f"fp16: needs a GPU: {REASON}; GPU: {REASON}" in said
