"""Models for the tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imgpipeline.vision.backends import BACKENDS, GPU_BACKEND, installed_backends
from imgpipeline.vision.darknet import convert_darknet
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.model_files import read_verified
from imgpipeline.vision.registry import find_model
from imgpipeline_tests.vision.darknet.random_weights import random_weights
from imgpipeline_tests.vision.darknet.small_networks import EVERY_LAYER


@pytest.fixture(params=[name for name in BACKENDS if name != GPU_BACKEND or name in installed_backends()])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn; of the GPU's only where there is one."""
    if request.param not in installed_backends():
        pytest.skip(f"{request.param} is not installed: pip install 'imgpipeline[{request.param}]'")
    return request.param


@pytest.fixture(scope="session")
def demo() -> bytes:
    """The content of the demo model's file."""
    return read_verified(find_model("demo"))[0]


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of one's own: 96x64, three classes, layout yolov4, random weights."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.cfg").write_text(EVERY_LAYER, encoding="utf-8")
    (folder / "small.weights").write_bytes(random_weights(EVERY_LAYER, 2))
    convert_darknet(folder / "small.cfg", folder / "small.weights", folder / "small.onnx")
    return folder / "small.onnx"


@pytest.fixture
def load_small(small_onnx: Path) -> Callable[..., Detector]:
    """Load the small model: `load_small(backend=…)`."""

    def load(**options: object) -> Detector:
        return load_detector(str(small_onnx), decoder="yolov4", labels=["a", "b", "c"], **options)

    return load
