"""The table `events` follows its inputs and rules: only changed rules are evaluated, and past days keep their rules."""

from datetime import timedelta

import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.events.configuration import Rules
from imgpipeline.events.rule_tables import DayEvents
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import State, state_of
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table
from imgpipeline_tests.events.samples import CHANGE, NOON, ZONE, rules
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, append, write_chain
from imgpipeline_tests.objectstore.stores import fresh_store

SAME_DAY, DAYS_LATER = NOON + timedelta(hours=3), NOON + timedelta(days=3)
CROWD = '[[rule]]\nname = "crowd"\nkind = "count"\nabove = 1\n'
IN_YARD = '[[rule]]\nname = "in the yard"\nkind = "zone_occupancy"\nzone = "yard"\n'
TOP = ZONE.replace("0.5", "0").replace("[1, 1], [0, 1]", "[1, 0.5], [0, 0.5]")
"""The zone in the upper half; detections of the samples stand there."""


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A store whose objects have versions."""
    return fresh_store("folder", request)


def build(store: ObjectStore, given: Rules, **more):
    return build_table(store, DAY, EVENTS, rules=given, settings=Settings(), **{"now": SAME_DAY, **more})


def evaluated(store: ObjectStore, given: Rules, **more) -> list[str]:
    """Build the table; return the rules that were evaluated for it."""
    return build(store, given, **more).manifest.made_with["evaluated_rules"].splitlines()


def state(store: ObjectStore, given: Rules) -> State:
    return state_of(DayEvents(store, Settings(), given, DAY, SAME_DAY))


def named(store: ObjectStore) -> list[tuple[str, str]]:
    with open_lake(store) as lake:
        return lake.query("SELECT rule, event_id FROM events ORDER BY ALL").rows


def make_day(store: ObjectStore):
    """Write frames of which some show two cars, and build the day's tables."""
    outcomes = [seen(n, ["car"] * (n % 4), timestamp=NOON + timedelta(seconds=n)) for n in range(8)]
    chain = write_chain(store, outcomes)
    rebuild_day(store, DAY, now=NOON)
    return chain


@pytest.mark.medium
def test_events_are_built_once_and_again_when_their_tables_change(store: ObjectStore):
    chain, given = make_day(store), rules(CROWD)
    assert state(store, given) is State.MISSING
    assert (build(store, given).manifest.rows, state(store, given)) == (2, State.CURRENT)
    assert build(store, given).skipped
    before = named(store)
    append(chain, [seen(n, ["car"] * cars, timestamp=NOON + timedelta(seconds=n)) for n, cars in ((8, 0), (9, 2))])
    rebuild_day(store, DAY, now=NOON)
    assert state(store, given) is State.STALE
    build(store, given)
    assert set(before) < set(named(store))


@pytest.mark.medium
def test_a_changed_zone_affects_only_the_rules_that_read_it(store: ObjectStore):
    make_day(store)
    assert evaluated(store, rules(TOP + CROWD + IN_YARD)) == ["crowd", "in the yard"]
    moved = rules(TOP.replace("[1, 0.5], [0, 0.5]", "[1, 0.4], [0, 0.4]") + CROWD + IN_YARD)
    assert state(store, moved) is State.OTHER_RECIPE
    crowd_before = [row for row in named(store) if row[0] == "crowd"]
    assert evaluated(store, moved) == ["in the yard"]
    assert [row for row in named(store) if row[0] == "crowd"] == crowd_before != []


def test_a_change_of_targets_makes_no_event_stale(store: ObjectStore):
    make_day(store)
    build(store, rules(CROWD))
    assert state(store, rules(CROWD + 'notify = ["guards"]\n')) is State.CURRENT


def test_a_zone_that_no_rule_reads_changes_nothing(store: ObjectStore):
    make_day(store)
    build(store, rules(CROWD))
    assert state(store, rules(ZONE + CROWD)) is State.CURRENT


def test_events_of_a_removed_rule_are_removed(store: ObjectStore):
    make_day(store)
    build(store, rules(TOP + CROWD + IN_YARD))
    assert evaluated(store, rules(CROWD)) == []
    assert {rule for rule, _ in named(store)} == {"crowd"}


@pytest.mark.medium
def test_a_past_day_keeps_its_rules_until_a_person_builds_it(store: ObjectStore):
    chain, old, new = make_day(store), rules(CROWD), rules(CROWD.replace("crowd", "new"))
    build(store, old)
    assert build(store, new, keeps_rules=True, now=DAYS_LATER).skipped
    append(chain, [seen(8, ["car"] * 2, timestamp=NOON + timedelta(seconds=8))])
    rebuild_day(store, DAY, now=NOON)
    assert not build(store, new, keeps_rules=True, now=DAYS_LATER).skipped
    assert {rule for rule, _ in named(store)} == {"crowd"}
    build(store, new, now=DAYS_LATER)
    assert {rule for rule, _ in named(store)} == {"new"}


def test_the_current_day_uses_new_rules_immediately(store: ObjectStore):
    make_day(store)
    build(store, rules(CROWD))
    assert evaluated(store, rules(CROWD.replace("crowd", "new")), keeps_rules=True) == ["new"]


def test_a_missing_table_is_named_with_the_command_that_builds_it(store: ObjectStore):
    with pytest.raises(PermanentError, match="no table `frames`"):
        build(store, rules(CROWD))
    make_day(store)
    with pytest.raises(
        PermanentError, match=r"no table `frame_changes`.*--select frame_changes --partition 2026-01-09"
    ):
        build(store, rules(CHANGE))


def test_without_rules_the_table_is_empty(store: ObjectStore):
    make_day(store)
    assert build(store, Rules()).manifest.rows == 0
