"""The table `accuracy` of a day: when it is built, what it says of frames and lines, and what summaries show of it."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from imgpipeline.accuracy.answers import Answer, keep_answer
from imgpipeline.accuracy.plans import Plan, make_plan, read_plan
from imgpipeline.contracts.keys import report_key
from imgpipeline.daily.build import BuildOptions, build_day
from imgpipeline.daily.objects import MEASURED, TABLES, objects_of
from imgpipeline.daily.states import day_states
from imgpipeline.events.slices import open_samples
from imgpipeline.lake.days.derived import State
from imgpipeline.lake.days.measuring import read_population
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.summaries import LabelChoice, summarise
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.events.samples import STOP, rules
from imgpipeline_tests.lake.conftest import OpenLake
from imgpipeline_tests.lake.counted_day import (
    SOURCE,
    cars,
    count_all,
    day_of,
    draw,
    found_cars,
    rewrite,
    total,
)
from imgpipeline_tests.ledger.samples import DAY, NOON, append, write_chain, writer
from imgpipeline_tests.tracking.films import Car, film

pytestmark = pytest.mark.slow
LATER = NOON + timedelta(days=2)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(store_url=(tmp_path / "store").as_uri())


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


@pytest.fixture
def lake(tmp_path: Path) -> OpenLake:
    return lambda store, days: open_lake(store, cache_dir=tmp_path / "cache", days=days)


def build(store: ObjectStore, settings: Settings) -> dict[str, Any]:
    done = list(build_day(store, settings, DAY, objects_of(settings), BuildOptions(), clock=lambda: LATER))
    assert [each.error for each in done if each.error] == []
    return {each.name: each.result for each in done}


def state(store: ObjectStore, settings: Settings) -> State | None:
    """Return the state of the table; twice, since a look remembers what it found."""
    first, second = (day_states(store, settings, now=LATER)[DAY].get(MEASURED) for _ in range(2))
    assert first == second
    return first.state if first else None


def asked(store: ObjectStore, settings: Settings, *by: str) -> Mapping[str, Any]:
    """Return the row of `car`."""
    answer = summarise(store, settings, "label_counts", Span(), LabelChoice(by=by))
    (row,) = (row for row in answer.table.to_pylist() if row["label"] == "car")
    return row


def test_a_day_without_a_plan_has_no_table(store, settings):
    rewrite(store, day_of(0, 60))
    assert build(store, settings)[MEASURED] is None
    assert state(store, settings) is None
    assert {asked(store, settings, "label")[name] for name in ("estimate", "low", "high", "samples", "verdict")} == {
        None
    }


def test_the_table_is_stale_after_a_plan_an_answer_and_new_frames(store, settings, lake):
    frames = day_of(0, 300)
    rewrite(store, frames)
    build(store, settings)
    plan = draw(store, lake)
    assert state(store, settings) is State.MISSING
    build(store, settings)
    assert state(store, settings) is State.CURRENT
    count_all(store, plan, frames)
    assert state(store, settings) is State.STALE
    assert build(store, settings)[MEASURED].manifest.rows > 0
    assert state(store, settings) is State.CURRENT
    append(writer(store), day_of(300, 310))
    assert state(store, settings) is State.STALE
    assert build(store, settings)[TABLES] is not None
    assert state(store, settings) is State.CURRENT


def test_counts_of_whole_days_show_the_interval_that_holds_the_truth(store, settings, lake):
    frames = day_of(0, 300)
    rewrite(store, frames)
    plan = draw(store, lake)
    build(store, settings)
    count_all(store, plan, frames)
    build(store, settings)
    for by in (("label",), ("day", "label"), ("source", "label"), ("day", "source", "label")):
        row = asked(store, settings, *by)
        assert row["count"] == total(frames, found_cars)
        assert row["low"] < total(frames, cars) < row["high"]
        assert (row["samples"], row["verdict"]) == (60, "measured")
    assert f"{row['low']:,.0f} to {row['high']:,.0f}" in store.get(report_key(DAY)).decode()
    assert "low" not in summarise(store, settings, "label_counts", Span(), LabelChoice()).table.column_names


def test_a_count_that_has_changed_since_shows_no_interval(store, settings, lake):
    frames = day_of(0, 300)
    rewrite(store, frames)
    count_all(store, draw(store, lake), frames)
    build(store, settings)
    append(writer(store), day_of(300, 320))
    row = asked(store, settings, "label")
    assert (row["low"], row["verdict"]) == (None, "out_of_date")


def test_frames_outside_the_plan_take_the_interval_away_until_it_is_extended(store, settings, lake):
    frames = day_of(0, 320)
    rewrite(store, frames[:300])
    count_all(store, draw(store, lake), frames)
    append(writer(store), frames[300:])
    build(store, settings)
    assert asked(store, settings, "label")["verdict"] == "not_covered"
    count_all(store, draw(store, lake), frames)
    build(store, settings)
    row = asked(store, settings, "label")
    assert row["low"] < total(frames, cars) < row["high"]


def test_the_table_can_be_queried(store, settings, lake):
    frames = day_of(0, 300)
    rewrite(store, frames)
    count_all(store, draw(store, lake), frames)
    build(store, settings)
    plan = read_plan(store, DAY, SOURCE)
    with lake(store, [DAY]) as session:
        rows = session.query("SELECT source, label, part, frames, samples FROM accuracy ORDER BY part DESC").rows
    assert plan is not None
    assert rows[0] == (SOURCE, "car", "day", 300, len(plan.samples))


def test_the_crossings_of_a_line_have_rows_that_change_no_count_of_frames(store, settings, lake):
    start, (line,) = NOON, rules(STOP).line
    end = start + timedelta(minutes=20)
    write_chain(store, film(start, end, [Car(start, end), Car(start + timedelta(minutes=2), end, y=200)]))
    build(store, settings)
    with lake(store, [DAY]) as session, open_samples(session.rows, DAY, kept := line.model_dump(mode="json")) as ask:
        slices = read_population(ask, DAY, line.source, session.snapshot.ends, None)
    plan = Plan((make_plan(store, slices, samples=60, by="ada", at=NOON, line=kept),))
    assert plan.labels == ("stop: car forward", "stop: car out")
    for sample in plan.samples:
        counts = {"stop: car forward": 0, "stop: car out": 1}
        keep_answer(store, Answer(DAY, line.source, sample, "ada", NOON, counts, line=line.name))
    build(store, settings)
    assert state(store, settings) is State.CURRENT
    with lake(store, [DAY]) as session:
        rows = session.query("SELECT line, label, count, estimate, low, high FROM accuracy ORDER BY label").rows
    assert rows == [("stop", "stop: car forward", 0, 0, 0, 0), ("stop", "stop: car out", 2, 10, 10, 10)]
    assert asked(store, settings, "label")["verdict"] is None
    store.delete(stored_key("track_points", DAY))
    assert state(store, settings) is State.STALE
