"""Crossings of a line, counted by people in slices of time: the estimates against a day whose crossings are known."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from imgpipeline.accuracy.answers import Answer
from imgpipeline.accuracy.estimator import Run, estimate
from imgpipeline.accuracy.plans import Plan, make_plan
from imgpipeline.accuracy.sampling import draw_runs, run_bounds
from imgpipeline.contracts.keys import ChainId
from imgpipeline.events.configuration import Line
from imgpipeline.events.slices import counted_labels, open_samples, read_clip
from imgpipeline.lake.days.measuring import Ask, changed_frames, measure, read_population
from imgpipeline.lake.storage.engine import Engine, open_engine
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.events.samples import LINE, rules

pytestmark = pytest.mark.medium

DAY = date(2026, 1, 9)
MIDNIGHT = datetime(2026, 1, 9, tzinfo=UTC)
FRAME_S = 10
FRAMES = 24 * 3600 // FRAME_S
SOURCE = "cam-1"
CHAIN = ChainId("frames", "id", 0)
(DOOR,) = rules(LINE).line
IN, OUT = "door: person in", "door: person out"
TABLES = """
CREATE TABLE frames (day DATE, source VARCHAR, status VARCHAR, frame_id VARCHAR, "timestamp" TIMESTAMPTZ,
    source_image_path VARCHAR, image_width INTEGER, image_height INTEGER, source_kafka_topic VARCHAR,
    source_kafka_topic_id VARCHAR, source_kafka_partition INTEGER, source_kafka_offset BIGINT);
CREATE TABLE detections (day DATE, source VARCHAR, frame_id VARCHAR, detection_number INTEGER, label VARCHAR,
    confidence DOUBLE, x DOUBLE, y DOUBLE, width DOUBLE, height DOUBLE);
CREATE TABLE tracks (day DATE, track_id VARCHAR, object_id VARCHAR, label VARCHAR);
CREATE TABLE track_points (day DATE, frame_id VARCHAR, detection_number INTEGER, track_id VARCHAR);
"""


def at(number: int) -> datetime:
    """Return the time of a frame."""
    return MIDNIGHT + timedelta(seconds=FRAME_S * number)


def slice_of(number: int) -> str:
    """Return the id of a frame's slice: its start."""
    return MIDNIGHT.replace(hour=number * FRAME_S // 3600, minute=number * FRAME_S // 120 * 2 % 60).strftime(
        "%Y%m%dT%H%M%SZ"
    )


@dataclass(frozen=True)
class Street:
    """A day of a camera: who crossed the door, by slice and direction, and the tables with what the detector saw."""

    engine: Engine
    truth: Counter[tuple[str, str]]
    detected: Counter[tuple[str, str]]

    def ask(self, sql: str, given) -> list:
        return self.engine.run(sql, given)


def add_frames(engine: Engine, start: int, stop: int) -> None:
    engine.run(
        "INSERT INTO frames SELECT ?, ?, 'processed', 'f' || n, ?::TIMESTAMPTZ + INTERVAL (n * 10) SECOND, 'p', 200, "
        "100, 'frames', 'id', 0, n FROM range(?, ?) AS r(n)",
        [DAY, SOURCE, MIDNIGHT, start, stop],
    )


def add_tracks(engine: Engine, crossings: list[tuple[int, int, bool]]) -> None:
    """Add a track of two frames for each crossing: its frame, its place in the frame, and whether it goes in."""
    rows = [
        (f"{number}-{place}", f"f{number + step}", 2 * place + (step == 0), 60.0 + 30 * place, 20 + 20 * is_below)
        for number, place, goes_in in crossings
        for step, is_below in ((-1, not goes_in), (0, goes_in))
    ]
    columns = [list(column) for column in zip(*rows, strict=True)]
    engine.run("CREATE TABLE found (track VARCHAR, name VARCHAR, slot INTEGER, x DOUBLE, y DOUBLE)")
    engine.run("INSERT INTO found SELECT unnest(?), unnest(?), unnest(?), unnest(?), unnest(?)", columns)
    engine.run("INSERT INTO tracks SELECT DISTINCT ?::DATE, track, track, 'person' FROM found", [DAY])
    engine.run("INSERT INTO track_points SELECT ?::DATE, name, slot, track FROM found", [DAY])
    engine.run(
        "INSERT INTO detections SELECT ?::DATE, ?, name, slot, 'person', 0.9, x, y, 10, 20 FROM found", [DAY, SOURCE]
    )


@pytest.fixture(scope="module")
def street() -> Iterator[Street]:
    """Three people cross in two minutes, fewer at night; the detector misses a fifth who come, and a third who go."""
    rng = np.random.default_rng(28)
    truth, detected, rows = Counter(), Counter(), []
    for number in range(1, FRAMES):
        rate = 0.25 if 6 * 3600 < number * FRAME_S < 22 * 3600 else 0.05
        for person in range((rng.random() < rate) * (1 + (rng.random() < 0.2))):
            is_in = rng.random() < 0.5
            key = (slice_of(number), IN if is_in else OUT)
            truth[key] += 1
            if rng.random() < (0.8 if is_in else 0.65):
                detected[key] += 1
                rows.append((number, person, is_in))
    with open_engine(memory="1GB") as engine:
        engine.run(TABLES)
        add_frames(engine, 0, FRAMES)
        add_tracks(engine, rows)
        yield Street(engine, truth, detected)


@pytest.fixture
def folder_store(tmp_path: Path) -> ObjectStore:
    return open_store(Settings(_env_file=None, store_url=(tmp_path / "store").as_uri()))


def drawn(store, ask: Ask, samples: int, line: Line = DOOR) -> Plan:
    population = read_population(ask, DAY, SOURCE, {CHAIN: FRAMES}, None)
    labels = counted_labels(line, ["person"])
    given = {"labels": labels, "samples": samples, "by": "ada", "at": MIDNIGHT}
    return Plan((make_plan(store, population, line=line.model_dump(mode="json"), **given),))


def answered(street: Street, plan: Plan) -> list[Answer]:
    """Return what a person counts who sees all crossings."""
    return [
        Answer(
            DAY, SOURCE, one, "ann", MIDNIGHT, {label: street.truth[one, label] for label in plan.labels}, line="door"
        )
        for one in plan.samples
    ]


def total(counts: Counter[tuple[str, str]], label: str) -> int:
    return sum(number for (_, of), number in counts.items() if of == label)


def test_the_intervals_of_both_directions_contain_the_truth_that_the_detector_misses(street, folder_store):
    with open_samples(street.ask, DAY, DOOR.model_dump(mode="json")) as ask:
        assert ask("SELECT DISTINCT label FROM label_counts ORDER BY label", {}) == [(IN,), (OUT,)]
        assert ask("SELECT processed FROM frame_stats", {}) == [(720,)]
        plan = drawn(folder_store, ask, 90)
        assert len(plan.samples) == 90
        assert changed_frames(ask, plan) == (0, 0, 0)
        rows = measure(ask, plan, answered(street, plan), 0.95)
    assert [row.label for row in rows if row.part == "day"] == [IN, OUT]
    for row in (row for row in rows if row.part == "day"):
        truth, detected = total(street.truth, row.label), total(street.detected, row.label)
        assert row.found.count == detected
        assert row.found.frames == 720
        assert row.found.low is not None
        assert row.found.high is not None
        assert row.found.low <= truth <= row.found.high
        assert row.found.high - row.found.low < 0.4 * truth
        assert abs(row.found.estimate - truth) < abs(detected - truth)


@pytest.mark.slow
def test_of_two_thousand_draws_of_sixty_slices_93_in_100_intervals_contain_the_truth(street):
    ids = [slice_of(number) for number in range(0, FRAMES, 120 // FRAME_S)]
    found, covered = Counter[str](), Counter[str]()
    for seed in range(2000):
        drawn_slices = draw_runs(ids, 60, str(seed))
        for label in (IN, OUT):
            runs = [
                Run(stop - start, (float(street.truth[sample, label] - street.detected[sample, label]),))
                for (start, stop), sample in zip(run_bounds(720, 60), drawn_slices, strict=True)
                if sample
            ]
            result = estimate(total(street.detected, label), [tuple(runs)])
            if result.low is not None and result.high is not None:
                found[label] += 1
                covered[label] += result.low <= total(street.truth, label) <= result.high
    for label in (IN, OUT):
        assert found[label] > 1000
        assert covered[label] / found[label] >= 0.93 - 2 * math.sqrt(0.93 * 0.07 / found[label])


def test_a_clip_has_the_frames_of_its_slice_after_ten_seconds_that_do_not_count(street):
    clip = read_clip(street.ask, DAY, SOURCE, "20260109T120200Z")
    first = (12 * 3600 + 120) // FRAME_S
    assert [one["frame_id"] for one in clip] == [f"f{number}" for number in range(first - 1, first + 12)]
    assert [one["is_counted"] for one in clip] == [False, *[True] * 12]
    assert [one["is_counted"] for one in read_clip(street.ask, DAY, SOURCE, "20260109T000000Z")] == [True] * 12


@pytest.mark.slow
def test_a_slice_that_gets_frames_after_the_plan_is_not_covered(street, folder_store):
    with open_samples(street.ask, DAY, DOOR.model_dump(mode="json")) as ask:
        plan = drawn(folder_store, ask, 60)
    street.engine.run("BEGIN")
    try:
        street.engine.run(
            "INSERT INTO frames SELECT * REPLACE ('new' AS frame_id, 8640 AS source_kafka_offset) FROM frames LIMIT 1"
        )
        with open_samples(street.ask, DAY, DOOR.model_dump(mode="json")) as ask:
            assert changed_frames(ask, plan)[0] == 1
            assert {row.found.verdict for row in measure(ask, plan, answered(street, plan), 0)} == {"not_covered"}
    finally:
        street.engine.run("ROLLBACK")
