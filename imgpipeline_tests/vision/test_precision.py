"""A detector computes in the precision of the settings, reports it, and refuses unsupported ones."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from imgpipeline.contracts.detection import DetectorUse
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import load_settings
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision.backends import installed_backends, open_backend
from imgpipeline.vision.configured import describe_use, load_configured_detector
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.precision import bf16_problem, choose_precision, cpu_flags


@pytest.fixture(scope="module")
def quantized() -> bytes:
    """The bytes of an ONNX file with one pair of quantizing operators."""
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["output"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in ("images", "output")]
    graph = helper.make_graph(nodes, "pair", ends[:1], ends[1:], constants)
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


@pytest.fixture
def bf16() -> None:
    """Skips the test where this machine does not compute in bf16."""
    if "openvino" not in installed_backends():
        pytest.skip("openvino is not installed")
    from imgpipeline.vision.backends.openvino_backend import missing_bf16  # noqa: PLC0415 - the package is optional

    if problem := missing_bf16():
        pytest.skip(problem)


def test_the_default_is_32_bit_floats_and_frames_do_not_name_them(demo):
    assert choose_precision("fp32", demo, "demo") == "fp32"
    detector = load_configured_detector(load_settings())
    assert (detector.precision, detector.use.precision) == ("fp32", None)
    assert detector.use == DetectorUse("demo", detector.model_sha256, None, 0.5, 0.4)


@pytest.mark.parametrize("asked", ["fp32", "int8"])
def test_a_quantized_model_computes_in_int8(asked, quantized):
    assert choose_precision(asked, quantized, "yard") == "int8"


def test_a_float_model_refuses_int8_with_the_command_that_quantizes_it():
    with pytest.raises(ConfigurationError, match="'demo' is not quantized") as caught:
        load_detector("demo", precision="int8")
    assert "imgpipeline models quantize demo" in (caught.value.next_step or "")


@pytest.mark.parametrize("largest", [127, -65, 65])
def test_a_quantized_model_whose_results_depend_on_the_processor_is_refused(largest, quantized):
    """Two products of 255 and such a weight exceed 16 bits, in which processors without VNNI add them."""
    weights = np.full((2, 1, 1, 1), 64, np.int8)
    assert choose_precision("fp32", with_weights(quantized, weights), "yard") == "int8"
    weights[1] = largest
    with pytest.raises(ConfigurationError, match=r"'yard' is quantized with weights beyond ±64.*processor") as caught:
        choose_precision("fp32", with_weights(quantized, weights), "yard")
    assert "imgpipeline models quantize" in (caught.value.next_step or "")


def with_weights(content: bytes, weights: np.ndarray) -> bytes:
    model = onnx.load_from_string(content)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model.SerializeToString()


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_a_quantized_model_refuses_16_bit_floats(asked, quantized):
    with pytest.raises(ConfigurationError, match="it computes in int8"):
        choose_precision(asked, quantized, "yard")


@pytest.mark.parametrize("name", ["onnxruntime", "opencv"])
def test_a_backend_without_bf16_refuses_it_and_names_the_one_that_has_it(name, demo):
    with pytest.raises(ConfigurationError, match=f"bf16, which the backend {name} does not compute in") as caught:
        open_backend(name, demo, precision="bf16")
    assert "openvino" in (caught.value.next_step or "")


@pytest.mark.parametrize(
    ("flags", "capabilities", "reason"),
    [
        (["avx2", "avx512_bf16"], ["FP32", "BF16"], None),
        (["amx_bf16"], ["BF16"], None),
        ([], ["BF16"], None),
        (["avx2", "avx512f"], ["FP32", "BF16"], "this processor does not compute in bf16"),
        (["avx512_bf16"], ["FP32"], "OpenVINO does not compute in bf16"),
    ],
    ids=["avx512", "amx", "unknown-flags", "emulated", "openvino-without"],
)
def test_a_processor_computes_in_bf16_if_it_and_openvino_do(flags, capabilities, reason):
    found = bf16_problem(flags, capabilities)
    assert found == reason if reason is None else found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "model name\t: x\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor : 1\nflags : other\n",
            {"fpu", "avx2", "amx_bf16"},
        ),
        ("Features\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("nothing of this kind", set()),
    ],
    ids=["x86", "arm", "other"],
)
def test_the_processor_s_features_are_read_from_the_kernel(text, expected, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_flags(tmp_path / "cpuinfo") == expected
    assert cpu_flags(tmp_path / "absent") == frozenset()


def load(precision: str) -> Detector:
    return load_configured_detector(load_settings(precision=precision))


def test_in_bf16_the_demo_finds_the_same_objects_with_other_scores(bf16):
    pixels = Scene(5).frame(20)[0]
    exact, rough = (load(precision).detect(pixels) for precision in ("fp32", "bf16"))
    assert [d.label for d in exact] == [d.label for d in sorted(rough, key=_nearest(exact))]
    assert exact != rough, "bf16 has three significant digits, so it cannot give the same scores"


def _nearest(to: list) -> Callable:
    return lambda d: int(np.argmin([np.abs(np.subtract(d.box_xywh, e.box_xywh)).sum() for e in to]))


def test_a_detector_in_bf16_says_so(bf16):
    detector = load("bf16")
    assert (detector.backend_name, detector.precision, detector.use.precision) == ("openvino", "bf16", "bf16")
    assert describe_use(detector).startswith("runs in openvino on the CPU, in bf16. int8: needs a quantized model")


PROGRAM = """
import sys, threading
import numpy as np
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.registry import find_model

sys.setswitchinterval(1e-6)
backend = open_backend("openvino", find_model("demo").path.read_bytes(), threads=1)
together, blob, done = threading.Barrier(16), np.zeros((1, 3, 416, 416), np.float32), []

def work():
    together.wait()
    done.append(backend.infer(blob))

threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(done))
"""


@pytest.mark.slow
@pytest.mark.skipif("openvino" not in installed_backends(), reason="openvino is not installed")
@pytest.mark.parametrize("attempt", range(8))
def test_threads_that_begin_together_do_not_wait_for_each_other_for_ever(attempt):
    """They did in about one process of five: inside OpenVINO one held a lock that another, with the GIL, waited for."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout.split() == ["16"]
