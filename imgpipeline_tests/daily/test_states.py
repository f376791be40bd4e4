"""What `day_states` finds, in folder stores; what it decides must be what a build would do."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imgpipeline.contracts.keys import day_table_key, report_key, segment_key, summary_key
from imgpipeline.daily.build import BuildOptions, build_day
from imgpipeline.daily.objects import COMPARISON, MEASURED, RULE_OBJECTS, TABLES, TRACKS, objects_of
from imgpipeline.daily.states import NEW_FEATURE, day_states, due_days, note_features
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import State
from imgpipeline.lake.quality.audit import audit
from imgpipeline.ledger.days import DayIndex, days_of_chain
from imgpipeline.ledger.reading import read_segment
from imgpipeline.ledger.repair.damage import find_damage
from imgpipeline.ledger.repair.mending import Mender, pieces_of
from imgpipeline.ledger.segment import DamagedSegmentError
from imgpipeline.objectstore import ObjectInfo, ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, PROVENANCE, append, write_chain

DAY_LONG = timedelta(days=1)
NEXT = DAY + DAY_LONG
LATER = NOON + timedelta(days=3)
pytestmark = pytest.mark.medium


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(store_url=(tmp_path / "store").as_uri())


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def build(store: ObjectStore, settings: Settings, *days: date, at: datetime = LATER) -> None:
    names = objects_of(settings)
    for day in days:
        done = list(build_day(store, settings, day, names, BuildOptions(), clock=lambda: at))
        assert [(each.name, each.error) for each in done if each.error] == []


def found(store: ObjectStore, settings: Settings, day: date = DAY, at: datetime = LATER) -> Mapping[str, State]:
    """Return the objects of a day that are not current; twice, since a look remembers what it found."""
    first, second = (day_states(store, settings, now=at)[day] for _ in range(2))
    assert first == second
    return {name: each.state for name, each in first.items() if each.state is not State.CURRENT}


def due(store: ObjectStore, settings: Settings, day: date = DAY, at: datetime = LATER) -> set[str]:
    return {name for name, each in day_states(store, settings, now=at)[day].items() if each.is_due}


def note_requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return a list that gets the action and key of each request from now on; listings are left out."""
    asked: list[tuple[str, str]] = []
    request = ObjectStore.request

    def note(store: ObjectStore, action: str, key: str, attempt: Any) -> Any:
        asked.append((action, key))
        return request(store, action, key, attempt)

    monkeypatch.setattr(ObjectStore, "request", note)
    return asked


def test_a_day_without_tables_is_missing_and_current_once_built(store, settings):
    write_chain(store, [seen(0)], [seen(1, day=NEXT)])
    everything = set(objects_of(settings)) - {COMPARISON, MEASURED}
    assert due(store, settings) == due(store, settings, NEXT) == everything
    build(store, settings, DAY)
    assert found(store, settings) == {}
    assert due(store, settings, NEXT) == everything
    assert not set(RULE_OBJECTS) & everything, "there are no rules"


def test_a_later_segment_makes_only_its_days_stale(store, settings):
    chain = write_chain(store, [seen(0)], [seen(1, day=NEXT)])
    build(store, settings, DAY, NEXT)
    append(chain, [seen(2)])
    assert found(store, settings)[TABLES] is State.STALE
    assert found(store, settings, NEXT) == {}
    assert due_days(day_states(store, settings, now=LATER)) == {DAY: "day_tables: the ledger has newer segments"}


@pytest.mark.slow
def test_a_repair_that_is_killed_after_its_last_put_leaves_its_days_due(store, settings, monkeypatch):
    """It moves no end, and ends before it has closed its entry in the repair list."""
    write_chain(store, [seen(0)], [seen(1), seen(2, day=NEXT)], [seen(3, day=NEXT)], [seen(4, day=NEXT + DAY_LONG)])
    days = (DAY, NEXT, NEXT + DAY_LONG)
    build(store, settings, *days)
    assert all(found(store, settings, day) == {} for day in days)
    key = segment_key(CHAIN, 1)
    store.put(key, b"damaged")

    class KilledError(Exception):
        pass

    def reach(step: str, _key: str) -> None:
        if step == "mend put done":
            raise KilledError

    (stretch,) = find_damage(store, CHAIN).stretches
    mender = Mender(store, CHAIN, PROVENANCE, lambda: NOON, DayIndex(store), None)
    outcomes = [replace(seen(n, day=DAY), topic=CHAIN.topic, partition=0, offset=n) for n in (1, 2)]
    known = days_of_chain(store, CHAIN, 1, 3)
    mended = mender.mend(
        stretch, pieces_of(stretch, 3), lambda _: iter([(o, None) for o in outcomes]), lambda _: None, days=known
    )
    monkeypatch.setattr("imgpipeline.ledger.repair.mending.reach", reach)
    with pytest.raises(KilledError):
        list(mended)

    assert read_segment(store, key).header.days == (DAY,)
    assert {day: found(store, settings, day).get(TABLES) for day in days[:2]} == dict.fromkeys(days[:2], State.STALE)
    due = due_days(day_states(store, settings, now=LATER))
    assert {due[day] for day in days[:2]} == {"day_tables: the ledger was repaired after it was built"}
    build(store, settings, *days)
    assert all(found(store, settings, day) == {} for day in days)
    assert audit(store, list, now=LATER).ok


def test_a_build_that_died_between_two_objects_leaves_the_others_due(store, settings):
    chain = write_chain(store, [seen(0)])
    build(store, settings, DAY)
    append(chain, [seen(1)])
    rebuild_day(store, DAY, now=LATER)
    assert due(store, settings) >= {"label_counts", "label_timestamps", "frame_stats", TRACKS, "daily_report"}
    assert "label_totals" not in due(store, settings), "its own input is not built yet"


@pytest.mark.slow
def test_tables_of_a_killed_build_are_due_and_stop_no_look_at_their_neighbours(store, settings, monkeypatch):
    """Tracks read the tables of the days before and after, which do not belong together here."""
    monkeypatch.setattr("imgpipeline.lake.days.summary_inputs.SETTLE_S", 0.0)
    chain = write_chain(store, [seen(0)], [seen(1, day=NEXT)])
    build(store, settings, DAY, NEXT)
    older = store.get(day_table_key("detections", DAY))
    append(chain, [seen(2)])
    rebuild_day(store, DAY, force=True, now=LATER)
    store.put(day_table_key("detections", DAY), older)
    append(chain, [seen(3, day=NEXT)])
    rebuild_day(store, NEXT, now=LATER)
    assert TABLES in due(store, settings)
    assert TRACKS not in due(store, settings, NEXT), "they cannot be built now"
    assert "label_counts" in due(store, settings, NEXT)
    rebuild_day(store, DAY, now=LATER)
    assert TRACKS in due(store, settings, NEXT), "the first look was not remembered"


def test_a_removed_object_is_due_and_a_damaged_one_waits_for_a_person(store, settings):
    write_chain(store, [seen(0)])
    build(store, settings, DAY)
    store.delete(summary_key("frame_stats", DAY))
    store.put(summary_key("label_totals", DAY), b"rotten")
    assert found(store, settings) | {"daily_report": State.STALE} == {
        "frame_stats": State.MISSING, "label_totals": State.DAMAGED, "daily_report": State.STALE
    }  # fmt: skip
    assert due(store, settings) >= {"frame_stats"}
    assert "label_totals" not in due(store, settings)


def test_what_reads_a_damaged_table_waits_with_it(store, settings):
    write_chain(store, [seen(0)])
    build(store, settings, DAY)
    store.put(day_table_key("detections", DAY), b"rotten")
    assert due(store, settings) == set()
    assert found(store, settings)["label_counts"] is State.DAMAGED


def test_other_settings_are_another_recipe_and_nothing_is_due(store, settings):
    write_chain(store, [seen(0)])
    build(store, settings, DAY)
    other = settings.model_copy(update={"summary_threshold": 0.7})
    assert found(store, other)["label_counts"] is State.OTHER_RECIPE
    assert due(store, other) == set()


def test_a_report_is_stale_when_its_day_is_over_and_after_an_audit(store, settings):
    write_chain(store, [seen(0)])
    build(store, settings, DAY, at=NOON)
    assert due(store, settings, at=NOON) == set()
    assert due(store, settings) == {"daily_report"}
    build(store, settings, DAY)
    audit(store, list, now=LATER)
    assert due(store, settings) == {"daily_report"}


def test_a_report_follows_tracks_and_never_waits_for_them(store, settings):
    write_chain(store, [seen(0)])
    without = [name for name in objects_of(settings) if name != TRACKS]
    list(build_day(store, settings, DAY, without, BuildOptions(), clock=lambda: LATER))
    assert store.head(report_key(DAY)) is not None
    assert due(store, settings) == {TRACKS}
    list(build_day(store, settings, DAY, [TRACKS], BuildOptions(), clock=lambda: LATER))
    assert due(store, settings) == {"daily_report"}


@pytest.fixture
def with_rules(settings: Settings, tmp_path: Path) -> Settings:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "seen"\nkind = "count"\nabove = 0\n')
    return settings.model_copy(update={"rules_file": str(rules)})


def test_a_feature_that_is_newer_than_the_tables_of_a_day_waits_for_a_person(store, settings, with_rules):
    """The day gets it with its next build; days that are built from now on have it anyway."""
    chain = write_chain(store, [seen(0)], [seen(1, day=NEXT)])
    note_features(store, settings, now=NOON)
    build(store, settings, DAY, NEXT, at=NOON + timedelta(hours=13))
    note_features(store, with_rules, now=LATER)
    assert not due(store, with_rules) & set(RULE_OBJECTS)
    assert day_states(store, with_rules, now=LATER)[DAY]["events"].why == NEW_FEATURE
    append(chain, [seen(2)])
    assert due(store, with_rules) >= set(RULE_OBJECTS)


def test_a_later_look_reads_nothing_of_a_day_that_waits_for_a_person(store, settings, with_rules, monkeypatch):
    write_chain(store, [seen(0)])
    note_features(store, settings, now=NOON)
    build(store, settings, DAY, at=NOON + timedelta(hours=13))
    note_features(store, with_rules, now=LATER)
    first = day_states(store, with_rules, now=LATER)
    asked = note_requests(monkeypatch)
    assert day_states(store, with_rules, now=LATER) == first
    assert [key for _, key in asked if f"day={DAY}" in key] == []


def test_a_look_at_one_day_lists_no_table(store, settings, monkeypatch):
    write_chain(store, [seen(0)], [seen(1, day=NEXT)])
    build(store, settings, DAY, NEXT)
    of_all = day_states(store, settings, now=LATER)
    listed: list[str] = []
    list_objects = ObjectStore.list_objects

    def note(store: ObjectStore, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        listed.append(prefix)
        return list_objects(store, prefix, after=after)

    monkeypatch.setattr(ObjectStore, "list_objects", note)
    assert day_states(store, settings, [DAY], now=LATER) == {DAY: of_all[DAY]}
    assert not {"frames", "summaries/label_counts", "reports", "audit"} & set(listed)


@pytest.mark.fault(40)
def test_a_damaged_last_segment_stops_only_the_days_that_it_may_touch(store, settings):
    other = replace(CHAIN, partition=1)
    write_chain(store, [seen(0)], [seen(1, day=NEXT)])
    hurt = write_chain(store, [seen(0)], chain=other)
    build(store, settings, DAY)
    append(hurt, [seen(1)])
    key = segment_key(other, 1)
    store.put(key, b"")

    states = day_states(store, settings, now=LATER)

    assert key in states[DAY][TABLES].why
    with pytest.raises(DamagedSegmentError, match=key):
        rebuild_day(store, DAY, now=LATER)
    build(store, settings, NEXT)
    assert found(store, settings, NEXT) == {}
