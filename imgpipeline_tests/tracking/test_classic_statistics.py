"""The statistics of classic trackers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.sessions.session import Answer, open_lake
from imgpipeline.settings import load_settings
from imgpipeline.tracking.classic_statistics import statistics
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
    found = statistics(lake, "gate", DAY)
    assert found.columns == ("timestamp", "num_cars", "num_people")
    assert rows(found) == [
        ("2026-01-09T12:00:00", 1, 0), ("2026-01-09T12:00:01", 1, 1), ("2026-01-09T12:00:02", 2, 1),
        ("2026-01-09T12:00:03", 2, 1), ("2026-01-09T12:00:04", 2, 1), ("2026-01-09T12:00:05", 2, 1),
    ]  # fmt: skip


def test_the_whole_day_has_as_many_objects_as_the_last_row(lake):
    whole = lake.query("SELECT label, sum(new_objects)::INT FROM unique_totals GROUP BY 1 ORDER BY 1").rows
    assert whole == [("car", 1), ("dog", 1), ("person", 1), ("van", 1)]


def test_another_video_has_no_statistics(lake):
    assert statistics(lake, "other video", DAY).rows == []
