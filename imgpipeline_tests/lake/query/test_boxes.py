"""The boxes of frames between two times."""

from pathlib import Path

import pytest

from imgpipeline.lake.query.frames import detections_in, list_frames
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.query.site import fill


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Leave weak detections out of numbers."""
    made = Settings(_env_file=None, store_url=(tmp_path / "store").as_uri(), summary_threshold=0.6)
    fill(open_store(made), {})
    return made


def test_boxes_between_the_times_of_their_frames_are_all_boxes(settings, tmp_path):
    """Also for frames of one time, and for those that are newer than the tables."""
    with open_lake(open_store(settings), settings=settings, cache_dir=tmp_path / "cache") as lake:
        frames = list_frames(lake, WantedFrames()).table.to_pylist(maps_as_pydicts="strict")
        found = detections_in(
            lake,
            [(row["day"], row["frame_id"]) for row in frames],
            times=(frames[-1]["timestamp"], frames[0]["timestamp"]),
        )
        one = frames[0]
        alone = detections_in(lake, [(one["day"], one["frame_id"])], times=(one["timestamp"], one["timestamp"]))
    assert sum(len(boxes) for boxes in found.values()) > len(frames)
    assert {key: len(boxes) for key, boxes in found.items()} == {
        (row["day"], row["frame_id"]): sum(row["detections"].values()) for row in frames
    }
    assert alone.items() <= found.items()
