"""The job `rebuild_days`, and the schedule that requests it every night."""

import itertools
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import summary_key
from imgpipeline.contracts.times import stretches
from imgpipeline.daily.build import BuildOptions, build_day
from imgpipeline.daily.objects import objects_of
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.defs.assets.daily import STEP
from imgpipeline.defs.day_schedules import nightly_cron, nightly_rebuild, requests_for
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.defs.keeping import days_of
from imgpipeline_tests.defs.ticking import tick
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, append, write_chain

NEXT = DAY + timedelta(days=1)
NIGHT = datetime(2026, 1, 11, 1, 30, tzinfo=UTC)
"""In the night after NEXT."""
days = st.lists(st.dates(date(2025, 12, 20), date(2026, 1, 20)), unique=True)


def ranges(requests: list[dg.RunRequest] | str) -> list[tuple[str, str]]:
    return [days_of(request) for request in requests]


def due(store: ObjectStore, at: datetime = NIGHT) -> dict[date, str]:
    return due_days(day_states(store, load_settings(), now=at))


def build_all(store: ObjectStore, *several: date, at: datetime = NIGHT) -> None:
    for day in several:
        built = build_day(store, Settings(), day, objects_of(Settings()), BuildOptions(), clock=lambda: at)
        assert not [done for done in built if done.error]


def test_a_night_without_frames_says_why_it_builds_nothing(store):
    assert "Nothing to build: no frame was announced for 2026-01-10" in str(tick(nightly_rebuild, NIGHT))


@pytest.mark.slow
@pytest.mark.medium
def test_yesterday_gets_its_last_build_even_if_no_day_is_behind(store):
    write_chain(store, [seen(0), seen(1)], [seen(2, day=NEXT)])
    build_all(store, DAY, NEXT)
    (request,) = tick(nightly_rebuild, datetime.combine(NEXT + timedelta(days=1), NIGHT.timetz()))
    assert ranges([request]) == [(str(NEXT), str(NEXT))]
    assert "last build" in request.tags["imgpipeline/reason"]


@pytest.mark.slow
@pytest.mark.medium
def test_days_that_are_behind_are_requested_by_stretches(store):
    far = DAY + timedelta(days=5)
    chain = write_chain(store, [seen(0), seen(1, day=NEXT), seen(2, day=far)])
    late = datetime.combine(far + timedelta(days=30), NIGHT.timetz())
    build_all(store, DAY, NEXT, far, at=late)
    assert "nothing is due" in str(tick(nightly_rebuild, late))
    append(chain, [seen(3), seen(4, day=NEXT), seen(5, day=far)])
    requests = tick(nightly_rebuild, late)
    assert ranges(requests) == [(str(DAY), str(NEXT)), (str(far), str(far))]
    assert all("the ledger has newer segments" in request.tags["imgpipeline/reason"] for request in requests)


@pytest.mark.slow
def test_a_past_day_with_extended_tables_is_read_once_as_a_whole(store):
    chain = write_chain(store, [seen(0)], [seen(1, day=NEXT)])
    build_all(store, DAY, NEXT)
    append(chain, [seen(2)])
    build_all(store, DAY)
    requests = tick(nightly_rebuild, datetime.now(UTC))
    assert ranges(requests) == [(str(DAY), str(DAY))]
    assert "newer segments were added" in requests[0].tags["imgpipeline/reason"]
    assert requests[0].run_config == {"ops": {STEP: {"config": {"seal": True}}}}
    assert not rebuild_day(store, DAY, seal=True, now=NIGHT).is_extended
    build_all(store, DAY)
    assert isinstance(tick(nightly_rebuild, datetime.now(UTC)), str)


@pytest.mark.medium
def test_a_day_whose_summary_is_missing_or_older_than_its_tables_is_built(store):
    chain = write_chain(store, [seen(0)], [seen(1, day=NEXT)])
    late = NIGHT + timedelta(days=30)
    build_all(store, DAY, NEXT, at=late)
    assert isinstance(tick(nightly_rebuild, late), str)
    store.delete(summary_key("label_totals", DAY))
    append(chain, [seen(2, day=NEXT)])
    rebuild_day(store, NEXT, now=late)
    assert due(store, late) == {DAY: "label_totals: missing", NEXT: "label_counts: older than its inputs"}
    assert ranges(tick(nightly_rebuild, late)) == [(str(DAY), str(NEXT))]


@pytest.mark.medium
def test_a_day_that_cannot_be_read_does_not_stop_requests_for_others(store):
    """One old day has a damaged segment, another a damaged summary; the run of each names the damage."""
    later = NEXT + timedelta(days=1)
    write_chain(store, [seen(0)], [seen(1, day=NEXT)], [seen(2, day=later)])
    build_all(store, NEXT)
    first = min(info.key for info in store.list_objects("metadata"))
    store.put(first, b"damaged")
    store.put(summary_key("frame_stats", NEXT), b"damaged")
    reasons = due(store)
    for day in (DAY, later):
        assert reasons[day].startswith(f"day_tables: The segment {first} is damaged")
    assert reasons[NEXT].startswith("daily_report"), "a damaged object waits for a person"


@pytest.mark.medium
def test_a_changed_setting_requests_no_day(store, monkeypatch):
    write_chain(store, [seen(0)])
    build_all(store, DAY)
    monkeypatch.setenv("IMGPIPELINE_SUMMARY_THRESHOLD", "0.6")
    assert due(store) == {}


def test_a_night_that_is_evaluated_twice_requests_once_and_the_next_night_again(store):
    write_chain(store, [seen(0)])
    keys = [
        [request.run_key for request in tick(nightly_rebuild, at)] for at in (NIGHT, NIGHT, NIGHT + timedelta(days=1))
    ]
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])


@given(days)
def test_stretches_have_each_day_once_and_are_as_few_as_possible(several):
    found = stretches(several)
    assert [day for stretch in found for day in stretch] == sorted(several)
    for stretch in found:
        assert stretch[-1] - stretch[0] == timedelta(days=len(stretch) - 1)
    for earlier, later in itertools.pairwise(found):
        assert later[0] - earlier[-1] > timedelta(days=1)


@given(days)
def test_requests_name_all_days_and_why(several):
    requests = requests_for({day: f"reason {day.day % 2}" for day in several}, NIGHT)
    covered = [
        first + timedelta(days=n)
        for first, last in (map(date.fromisoformat, days_of(request)) for request in requests)
        for n in range((last - first).days + 1)
    ]
    assert covered == sorted(several)
    assert len({request.run_key for request in requests}) == len(requests)


def test_the_setting_determines_the_time_of_the_nightly_build(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_NIGHTLY_AT", "04:05")
    assert nightly_cron(load_settings()) == "5 4 * * *"
    assert nightly_rebuild.execution_timezone == "UTC"
