"""The demo's people count on a random sample what the simulator drew."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgpipeline.accuracy.answers import read_answers
from imgpipeline.demo.people import SAMPLES, Judged, count_samples
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.simulator.truth import Truth
from imgpipeline.sources.simulator.writer import FrameTruth
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.tracking.films import Car, film

pytestmark = pytest.mark.medium
START = datetime(2026, 1, 9, 12, tzinfo=UTC)
FRAMES = 100
CARS = 2


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(store_url=tmp_path.as_uri())


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """A day on which the model finds the same two cars in each frame of two cameras."""
    store, end = open_store(settings), START + timedelta(seconds=5 * FRAMES)
    cars = [Car(START, end), Car(START, end, y=300)]
    write_chain(store, [*film(START, end, cars), *film(START, end, cars, offset=FRAMES, source="yard")])
    rebuild_day(store, DAY, now=end)
    build_summary(store, "frame_stats", DAY, settings=settings, now=end)
    return store


def truths(*, missed_in_every: int) -> list[FrameTruth]:
    """Return the truth of the day: at one camera a third car in some frames, and objects too small to count."""
    cars = [Truth((10, 100 * number, 90, 100 * number + 60), "car", number, 1.0) for number in range(4)]
    tiny = Truth((10, 10, 12, 12), "person", 9, 1.0)
    found = []
    for number in range(FRAMES):
        seen = (*cars[: CARS + (number % missed_in_every == 0)], tiny)
        at = START + timedelta(seconds=5 * number)
        found += [
            FrameTruth("1.jpg", "gate", number, at, seen),
            FrameTruth("1.jpg", "yard", number, at, tuple(cars[:CARS])),
        ]
    return found


def judged(store: ObjectStore, settings: Settings, known: list[FrameTruth]) -> dict[str, Judged]:
    return {one.label: one for one in count_samples(store, settings, known, lambda: START + timedelta(days=1))}


def test_the_interval_is_compared_with_the_truth_of_all_frames(store, settings):
    car = judged(store, settings, truths(missed_in_every=3))["car"]
    assert (car.found.count, car.truth, car.holds) == (2 * CARS * FRAMES, 2 * CARS * FRAMES + 34, True)
    assert car.found.low < car.truth < car.found.high
    assert [len(read_answers(store, DAY, source)) for source in ("gate", "yard")] == [SAMPLES, SAMPLES]
    assert car.found.samples == 2 * SAMPLES


def test_a_label_with_few_errors_has_no_interval(store, settings):
    found = judged(store, settings, truths(missed_in_every=50))
    assert {label: one.holds for label, one in found.items()} == dict.fromkeys(found)
    assert (found["person"].found.count, found["person"].truth) == (0, 0)
