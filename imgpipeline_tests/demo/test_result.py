"""The unique objects of the demo are read from the pipeline's tables and compared with the truth."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.demo.result import MOST_OFF_UNIQUE, Line, count_unique
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.simulator.truth import Truth
from imgpipeline.sources.simulator.writer import FrameTruth
from imgpipeline_tests.daily.builds import build_summary, build_tracks
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.tracking.films import Car, film

START = datetime(2026, 1, 9, 12, 5, tzinfo=UTC)
END = START + timedelta(minutes=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cars drive side by side for five minutes, 60 frames each."""
    store, settings = open_store(load_settings(store_url=tmp_path.as_uri())), Settings()
    write_chain(store, film(START, END, [Car(START, END), Car(START, END, y=300)]))
    rebuild_day(store, DAY, now=END)
    build_summary(store, "label_counts", DAY, settings=settings, now=END)
    build_tracks(store, DAY, settings=settings, now=END)
    return tmp_path


def shown(seconds: float, *track_ids: int, source: str = "gate") -> FrameTruth:
    at = START + timedelta(seconds=seconds)
    cars = tuple(Truth((10, 100 * number, 90, 100 * number + 60), "car", number, 1.0) for number in track_ids)
    return FrameTruth("frame.jpg", source, 0, at, cars)


def compared(folder: Path, *truths: FrameTruth) -> Line:
    [line] = count_unique(folder, [DAY], truths, "gate", least_s=1.0)
    return line


@pytest.mark.medium
def test_objects_are_counted_once_and_compared_with_the_truth(folder):
    found = compared(folder, shown(0, 1, 2), shown(1, 1), shown(2, 1, 2), shown(3, 3), shown(9, 4, 5, source="yard"))
    assert (found.detections, found.counted, found.truth, found.failure) == (120, 2, 2, None)


@pytest.mark.medium
def test_two_missing_objects_are_a_failure_and_one_is_not(folder):
    assert compared(folder, shown(0, 1, 2, 3), shown(2, 1, 2, 3)).failure is None
    found = compared(folder, shown(0, 1, 2, 3, 4), shown(2, 1, 2, 3, 4))
    assert found.failure == "car: counted 2, but the truth is 4"


def test_objects_that_do_not_exist_are_a_failure():
    assert Line("dog", 2, 0, MOST_OFF_UNIQUE).failure == "dog: counted 2, but the truth is 0"
