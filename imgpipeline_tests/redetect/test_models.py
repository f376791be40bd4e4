"""Redetection with other models: a real one on photographs, and a user's own network."""

import hashlib

import numpy as np
import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.redetect import run
from imgpipeline.redetect.choice import parse_choice
from imgpipeline.redetect.pairs import compare_day
from imgpipeline.redetect.run import open_redetector, redetect_day
from imgpipeline_tests.daily.builds import build_comparison
from imgpipeline_tests.redetect import days
from imgpipeline_tests.redetect.days import DAY, LOW, NOON, build_live, objects_below, redetected_rows, redetector
from imgpipeline_tests.vision.tiny_networks import write_network

pytestmark = pytest.mark.medium


def test_yolox_nano_finds_objects_in_photographs_that_the_demo_model_misses(settings, store, shared_data, monkeypatch):
    photographs = [(shared_data / "images" / name).read_bytes() for name in ("dog.jpg", "person.jpg")]
    monkeypatch.setattr(days, "picture", lambda number: photographs[number])
    build_live(settings, store, range(2))
    model = shared_data / "models" / "yolox_nano.onnx"  # another export than the registered one, hence by its path
    real = settings.model_copy(update={"model": str(model), "model_decoder": "yolox"})
    found = open_redetector(real, store, parse_choice("yolox_nano", real), lambda: NOON)
    manifest = redetect_day(found, DAY).manifest
    assert (manifest.processed, manifest.model_used, manifest.nms_threshold) == (2, "yolox_nano", 0.4)
    labels = [row["label"] for row in redetected_rows(store, "detections", "yolox_nano")]
    assert {"dog", "bicycle", "person", "horse"} <= set(labels)
    pair = {row["label"]: row for row in compare_day(store, DAY, "live", "yolox_nano", memory=None).labels}
    assert pair["horse"]["count_b"] == labels.count("horse")
    assert pair["horse"]["only_b"] == pair["horse"]["count_b"]
    done = build_comparison(real, store, DAY, now=NOON)
    assert len(done.manifest.examples) == 2


def test_a_users_own_network_is_named_after_its_file(settings, store, tmp_path):
    build_live(settings, store, range(5))
    rows = np.array([[[4, 4, 30, 20, 0.02, 0], [30, 4, 50, 30, 0.9, 1]]], np.float32)
    path = write_network(tmp_path / "yard.onnx", {"output0": rows}, metadata={"names": "['van', 'person']"})
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    own = settings.model_copy(update={"model": str(path)})
    found = open_redetector(own, store, parse_choice("yard@0.01", own), lambda: NOON)
    manifest = redetect_day(found, DAY).manifest
    assert (manifest.processed, manifest.model_used, manifest.model_sha256) == (5, "yard", sha256)
    labels = [row["label"] for row in redetected_rows(store, "detections", "yard@0.01")]
    assert labels == ["person", "van"] * 5
    assert objects_below(store, f"redetections/model=yard~0.01/day={DAY}")


def test_before_all_pictures_of_a_part_are_blamed_the_detector_is_tested(settings, store, monkeypatch):
    frames = build_live(settings, store, range(4))
    for frame in frames:
        store.put(frame.source_image_path, b"x" * len(store.get(frame.source_image_path)))

    def refuse(_detector: object) -> None:
        raise PermanentError("The self-test of the detector failed.")

    with monkeypatch.context() as patched:
        patched.setattr(run, "self_test", refuse)
        with pytest.raises(PermanentError, match="self-test"):
            redetect_day(redetector(settings, store), DAY)
    assert not any(key.endswith(".parquet") for key in objects_below(store, "redetections"))
    assert redetect_day(redetector(settings, store), DAY).manifest.failed == {"DECODE_FAILED": 4}
    assert redetected_rows(store, "detections", LOW) == []
