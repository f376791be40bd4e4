"""Reduced decoding of large JPEGs can be switched off, and the ledger records how a frame was decoded."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from itertools import zip_longest

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.ledger.reading import fix_ends, list_segments, read_segments
from imgpipeline.objectstore import ImageReader
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.redetect.frames import FrameProcessor, FrameToProcess
from imgpipeline.redetect.manifest import recipe_of
from imgpipeline.settings import load_settings
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline_tests.detect.conftest import START, LaneUnderTest, encode

LIMITS = ImageLimits(50_000_000, 50_000_000)


@pytest.fixture(scope="module")
def large() -> bytes:
    """A street of 1920x1080 pixels as JPEG."""
    return encode(cv2.resize(Scene(3, frames=60).frame(20)[0], (1920, 1080), interpolation=cv2.INTER_LANCZOS4), ".jpg")


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("demo", threads=1)


def expected(data: bytes, detector: Detector, *, is_reduced: bool) -> list[Detection]:
    image = decode_image(data, LIMITS, reduced_for=detector.spec.network_input if is_reduced else None)
    assert (image.reduction > 1) == is_reduced
    return detector.detect(image)


def agree(found: Iterable[Detection], wanted: Iterable[Detection]) -> bool:
    """Whether detections are the same up to what the ledger rounds."""
    pairs = list(zip_longest(found, wanted))
    return all(a and b and a.label == b.label and np.allclose(numbers(a), numbers(b), atol=0.006) for a, b in pairs)


def numbers(of: Detection) -> tuple[float, ...]:
    return (of.confidence, *(of.box_xywh or ()))


def test_full_and_reduced_decoding_differ_for_this_image(large: bytes, detector: Detector):
    assert not agree(*(expected(large, detector, is_reduced=is_reduced) for is_reduced in (True, False)))


def test_a_run_decodes_as_configured_and_its_segments_record_it(lane: LaneUnderTest, large: bytes, detector: Detector):
    path = lane.put_image("images/camera/large.jpg", large)
    ways = {is_reduced: lane.with_settings(reduced_decoding=is_reduced) for is_reduced in (True, False)}
    for number, way in enumerate(ways.values()):
        time = START + timedelta(seconds=number)
        lane.send(json.dumps({"source": "camera", "image_path": path, "timestamp": time.isoformat()}).encode())
        way.follow()
    [(chain, end)] = fix_ends(lane.store).items()
    segments = list(read_segments(lane.store, chain, list_segments(lane.store, chain, 0, end.offset)))
    hashes = [segment.header.provenance.settings_hash for segment in segments]
    assert hashes == [way.settings.results_hash() for way in ways.values()]
    assert hashes[0] != hashes[1]
    for is_reduced, frame in zip(ways, lane.frames(), strict=True):
        assert agree(frame.detections, expected(large, detector, is_reduced=is_reduced))


@pytest.mark.parametrize("is_reduced", [True, False], ids=["reduced", "full size"])
def test_a_redetection_decodes_as_configured(large: bytes, detector: Detector, is_reduced: bool):
    settings, store = load_settings(reduced_decoding=is_reduced), open_memory_store()
    store.put("large.jpg", large)
    looker = FrameProcessor(settings, ImageReader(store, settings), detector)
    seen = looker.look(looker.read(FrameToProcess("a" * 32, "large.jpg", 0, "processed", None)))
    assert list(seen.detections) == expected(large, detector, is_reduced=is_reduced)


def test_results_of_full_and_reduced_decoding_are_not_mixed(detector: Detector):
    def recipe(**changes: object) -> str:
        return recipe_of(detector, load_settings(**changes))

    assert recipe() == recipe(reduced_decoding=True) != recipe(reduced_decoding=False)


def test_preprocessing_and_whole_pixels_are_part_of_a_recipe():
    demo = load_detector("demo")
    settings = load_settings()
    rules = replace(demo.spec.preprocessing, mean=(0.5, 0.5, 0.5))
    normalized = Detector(replace(demo.spec, preprocessing=rules), demo.model_sha256, demo.backend)
    whole = Detector(demo.spec, demo.model_sha256, demo.backend, integer_boxes=True)
    assert len({recipe_of(one, settings) for one in (demo, normalized, whole)}) == 3
