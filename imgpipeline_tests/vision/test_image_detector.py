"""`ImageDetector` returns the results of decoding and of the detector, within a limit of pixels."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.settings import Settings
from imgpipeline.vision import image_detector
from imgpipeline.vision.decode import DecodedImage, ImageLimits, Pixels, decode_image
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.gate import measure_quality
from imgpipeline.vision.header import read_header
from imgpipeline.vision.image_detector import ImageDetector
from imgpipeline_tests.detect.conftest import jpeg

DATA = jpeg()
HEADER = read_header(DATA)
PIXELS = HEADER.width * HEADER.height


class CountingDetector(Detector):
    """Notes how many images it is given at a time, and waits until that is as many as expected."""

    def __init__(self, of: Detector, expected: int) -> None:
        super().__init__(of.spec, of.model_sha256, of.backend)
        self.changed = threading.Condition()
        self.expected = expected
        self.at_once = self.most_at_once = 0

    def detect(self, picture: Pixels | DecodedImage) -> list[Detection]:  # noqa: ARG002 - it only counts
        with self.changed:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.most_at_once >= self.expected, timeout=30)
        threading.Event().wait(0.02)  # for one more than expected, which would be an error
        with self.changed:
            self.at_once -= 1
        return []


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("demo", threads=1)


def test_it_finds_what_decoding_and_detecting_find(detector):
    image = decode_image(DATA, ImageLimits(10**9, 10**9))
    steps: list[str] = []

    def step(name: str) -> nullcontext[None]:
        steps.append(name)
        return nullcontext()

    found = ImageDetector(Settings(_env_file=None, reduced_decoding=False), detector).detect(DATA, step=step)
    assert list(found.detections) == detector.detect(image)
    assert found.detections
    assert found.quality == measure_quality(image)
    assert (found.width, found.height, found.orientation) == (image.width, image.height, 1)
    assert steps == ["decode", "infer"]


def test_a_header_that_was_read_before_changes_nothing(detector):
    looks = ImageDetector(Settings(_env_file=None), detector)
    assert looks.detect(DATA, HEADER) == looks.detect(DATA)


@pytest.mark.parametrize(("most_pixels", "most_at_once"), [(PIXELS, 1), (2 * PIXELS + 1, 2)], ids=["one", "two"])
def test_the_pixels_that_are_looked_at_at_a_time_are_limited(detector, monkeypatch, most_pixels, most_at_once):
    monkeypatch.setattr(image_detector, "COMMON_PIXELS", 1)
    counting = CountingDetector(detector, most_at_once)
    looks = ImageDetector(Settings(_env_file=None, max_image_pixels=most_pixels), counting)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(looks.detect, [DATA] * 12))
    assert counting.most_at_once == most_at_once


def test_an_image_of_too_many_pixels_is_refused_and_leaves_the_room_to_others(detector):
    looks = ImageDetector(Settings(_env_file=None, max_image_pixels=PIXELS - 1), detector)
    for _ in range(3):
        with pytest.raises(BadInputError) as caught:
            looks.detect(DATA)
        assert caught.value.code is DeadLetterCode.IMAGE_TOO_LARGE
