"""The files of classic trackers; test names refer to rows of the list of classic systems."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.sessions.session import Answer, open_lake
from imgpipeline.settings import load_settings
from imgpipeline.tracking import classic_csv
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain
from imgpipeline_tests.objectstore.stores import fresh_store
from imgpipeline_tests.tracking.films import Car, film

pytestmark = pytest.mark.medium

AT = datetime(2026, 1, 9, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


@pytest.fixture
def lake(request, tmp_path):
    store = fresh_store("folder", request)
    cars = [
        Car(at(0), at(5)), Car(at(2), at(5), "van", y=200), Car(at(1), at(4), "person", y=300),
        Car(at(0), at(5), "dog"),
    ]  # fmt: skip
    write_chain(store, film(at(0), at(6), cars, rate=1))
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=load_settings(), now=NOON)
    with open_lake(store, cache_dir=tmp_path / "cache", days=[DAY]) as opened:
        yield opened


def rows(answer: Answer) -> list[tuple[Any, ...]]:
    """Return the rows as text, as CSV shows them."""
    return [tuple(cell.isoformat() if isinstance(cell, datetime) else cell for cell in row) for row in answer.rows]


def test_statistics_count_cars_and_people_so_far(lake):
    found = classic_csv.statistics(lake, "gate", DAY)
    assert found.columns == ("timestamp", "num_cars", "num_people")
    assert rows(found) == [
        ("2026-01-09T12:00:00", 1, 0), ("2026-01-09T12:00:01", 1, 1), ("2026-01-09T12:00:02", 2, 1),
        ("2026-01-09T12:00:03", 2, 1), ("2026-01-09T12:00:04", 2, 1), ("2026-01-09T12:00:05", 2, 1),
    ]  # fmt: skip


def test_the_whole_day_has_as_many_objects_as_the_last_row(lake):
    whole = lake.query("SELECT label, sum(new_objects)::INT FROM unique_totals GROUP BY 1 ORDER BY 1").rows
    assert whole == [("car", 1), ("dog", 1), ("person", 1), ("van", 1)]


def test_tracks_have_true_corners_and_numbers_from_one(lake):
    answer = classic_csv.tracks(lake, "gate", DAY, Kind.CARS)
    cars = rows(answer)
    assert ",".join(answer.columns) == "frame_id,video_id,timestamp,track_id,x1,y1,x2,y2,confidence,class_id"
    assert cars[0] == ("frame_00000", "gate", "2026-01-09T12:00:00", 1, 10.0, 100.0, 90.0, 160.0, 0.9, 0)
    assert [(row[0], row[3]) for row in cars if row[0] == "frame_00003"] == [("frame_00003", 1), ("frame_00003", 2)]
    people = classic_csv.tracks(lake, "gate", DAY, Kind.PEOPLE).rows
    assert [row[0] for row in people] == ["frame_00001", "frame_00002", "frame_00003"]


def test_each_video_has_tracks_of_its_own(lake):
    assert classic_csv.tracks(lake, "other video", DAY, Kind.CARS).rows == []
    assert classic_csv.statistics(lake, "other video", DAY).rows == []


def test_detections_have_labels_and_whole_pixels(lake):
    answer = classic_csv.detections(lake, "gate", DAY, Kind.CARS)
    cars = rows(answer)
    assert ",".join(answer.columns) == "frame_id,video_id,timestamp,label,confidence,x1,y1,x2,y2"
    assert [row[3] for row in cars] == ["car", "car", "car", "van", "car", "van", "car", "van"]
    assert cars[0] == ("frame_00000", "gate", "2026-01-09T12:00:00", "car", 0.9, 10, 100, 90, 160)


def test_frames_and_videos_keep_the_names_that_their_producer_gave(request, tmp_path):
    store = fresh_store("folder", request)
    shown = film(at(0), at(3), [Car(at(0), at(3))], rate=1)
    named = [
        replace(frame, attributes={"video_id": "uav-7", "frame_id": f"{frame.frame_number}.png"})
        if frame.frame_number != 2
        else replace(frame, frame_number=1_234_567)
        for frame in shown
        if isinstance(frame, Frame)
    ]
    write_chain(store, named)
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=load_settings(), now=NOON)
    names = [("0.png", "uav-7"), ("1.png", "uav-7"), ("frame_1234567", "gate")]
    with open_lake(store, cache_dir=tmp_path / "cache", days=[DAY]) as lake:
        assert [row[:2] for row in classic_csv.detections(lake, "gate", DAY, Kind.CARS).rows] == names
        assert [row[:2] for row in classic_csv.tracks(lake, "gate", DAY, Kind.CARS).rows] == names
