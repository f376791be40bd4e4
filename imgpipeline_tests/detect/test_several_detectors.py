"""A run with several detectors: the tables name, for each object, the model that found it."""

from pathlib import Path

import pytest

from imgpipeline.lake.query.lake import Lake
from imgpipeline.vision.adding import Wishes, add_model
from imgpipeline.vision.registry import find_model
from imgpipeline_tests.detect.conftest import LaneUnderTest


@pytest.mark.medium
def test_each_row_of_detections_names_its_model_and_every_frame_both(lane: LaneUnderTest, tmp_path: Path) -> None:
    demo = find_model("demo")
    yard = add_model(demo.path, "yard", Wishes(labels=demo.labels), model_dir=tmp_path, replace_it=False)
    several = lane.with_settings(detectors="demo: person, bicycle; yard: car, dog", model_dir=tmp_path)
    lane.announce(3)
    lane.follow()
    plain = [detection.label for frame in lane.frames() for detection in frame.detections]
    lane.announce(3, first=3)
    several.follow()

    frames = lane.frames()
    assert [[use.model_name for use in frame.detectors] for frame in frames] == [[]] * 3 + [["demo", "yard"]] * 3
    with Lake.open(several.settings) as lake:
        rows = lake.sql(
            "SELECT d.label, d.model_used, d.model_sha256 FROM detections d JOIN frames f USING (frame_id) "
            "WHERE f.source_kafka_offset >= 3"
        )
    assert sorted(rows["label"]) == sorted(plain), "each object once, as with one model"
    owner = {"person": "demo", "bicycle": "demo", "car": "yard", "dog": "yard"}
    assert [owner[label] for label in rows["label"]] == list(rows["model_used"])
    assert set(rows["model_used"]) == {"demo", "yard"}
    assert set(rows["model_sha256"]) == {yard.sha256}
