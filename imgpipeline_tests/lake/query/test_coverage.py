"""The observed hours of each source on a day, and its outages."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import Frame, Outcome
from imgpipeline.lake.query.coverage import SourceCoverage, read_coverage
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.ledger.sessions import account, minute_of, said, shot

pytestmark = pytest.mark.medium

STARTED, ENDED, OFFLINE, ONLINE = NoticeKind.STARTED, NoticeKind.ENDED, NoticeKind.OFFLINE, NoticeKind.ONLINE
YESTERDAY, TOMORROW = DAY - timedelta(days=1), DAY + timedelta(days=1)
MIDNIGHT, NEXT_MIDNIGHT = -720, 720
"""In minutes after noon."""


def taken(offset: int, minute: float, source: str = "cam-1") -> Frame:
    return replace(shot(offset, source=source), timestamp=minute_of(minute), processing_timestamp=minute_of(minute))


def coverage_of(
    store: ObjectStore, *outcomes: Outcome, now: datetime | None = None, **settings: object
) -> tuple[SourceCoverage, ...]:
    write_chain(store, outcomes)
    return shown(store, now or minute_of(NEXT_MIDNIGHT), **settings)


def shown(store: ObjectStore, now: datetime, **given: object) -> tuple[SourceCoverage, ...]:
    settings = Settings(**given)
    with open_lake(store, settings=settings) as lake:
        return read_coverage(lake, settings, DAY, now=now)


def outages_of(found: SourceCoverage) -> list[tuple[str, float, float]]:
    """Return kind, start and end of each, in minutes after noon."""
    return [
        (one.kind.value, *((at - minute_of(0)).total_seconds() / 60 for at in (one.start, one.end)))
        for one in found.outages
    ]


def test_observed_time_is_that_of_the_summary_by_hour(memory):
    (found,) = coverage_of(
        memory, said(0, STARTED), taken(1, 0), account(2, 1, observed_s=42), account(3, 0, minute=60, observed_s=30),
        said(4, ENDED, minute=61),
    )  # fmt: skip
    assert [(one.hour, one.observed_s, one.observed_by, one.frames) for one in found.hours] == [
        (12, 42.0, "accounts", 1),
        (13, 30.0, "accounts", 0),
    ]
    assert found.observed_s == 72.0


@pytest.mark.parametrize(
    ("notices", "outages"),
    [
        pytest.param([said(2, ENDED, minute=1)], [], id="ended"),
        pytest.param([], [("silent", 1, NEXT_MIDNIGHT)], id="killed"),
        pytest.param([account(2, 0, minute=30), said(3, ENDED, minute=31)], [("silent", 1, 30)], id="silent"),
        pytest.param([account(2, 0, minute=10), said(3, ENDED, minute=20)], [], id="within-the-limit"),
        pytest.param(
            [said(2, OFFLINE, minute=2, reason="no route"), said(3, ONLINE, minute=50), said(4, ENDED, minute=51)],
            [("offline", 2, 50)],
            id="offline",
        ),
        pytest.param(
            [said(2, OFFLINE, minute=30), said(3, ONLINE, minute=31), said(4, ENDED, minute=32)],
            [("silent", 1, 30), ("offline", 30, 31)],
            id="silent-then-offline",
        ),
        pytest.param([said(2, OFFLINE, minute=2)], [("offline", 2, NEXT_MIDNIGHT)], id="offline-for-good"),
        pytest.param(
            [said(2, ENDED, minute=1), said(3, STARTED, minute=300, session="b"), said(4, ENDED, minute=301)],
            [],
            id="between-sessions",
        ),
    ],
)
def test_a_source_has_an_outage_while_nothing_comes_and_it_has_not_ended(memory, notices, outages):
    (found,) = coverage_of(memory, said(0, STARTED), account(1, 0), *notices)
    assert outages_of(found) == outages


def test_an_outage_keeps_its_reason(memory):
    (found,) = coverage_of(memory, said(0, STARTED), said(1, OFFLINE, minute=1, reason="no route"))
    assert [one.reason for one in found.outages] == ["no route"]


@pytest.mark.parametrize(
    ("last", "outages"),
    [
        pytest.param([], [("silent", MIDNIGHT, NEXT_MIDNIGHT)], id="killed"),
        pytest.param([said(2, OFFLINE, day=YESTERDAY, minute=2)], [("offline", MIDNIGHT, NEXT_MIDNIGHT)], id="offline"),
        pytest.param([said(2, ENDED, day=YESTERDAY, minute=2)], None, id="ended"),
    ],
)
def test_a_source_that_should_have_sent_something_has_an_outage_of_the_whole_day(memory, last, outages):
    before = [said(0, STARTED, day=YESTERDAY), account(1, 0, day=YESTERDAY), *last]
    found = {one.source: one for one in coverage_of(memory, *before, taken(len(before), 0, "cam-2"))}
    assert ("cam-1" in found) == (outages is not None)
    assert outages is None or outages_of(found["cam-1"]) == outages


def test_a_day_that_is_not_over_has_no_outage_later_than_now(memory):
    outcomes = (said(0, STARTED), account(1, 0))
    assert outages_of(coverage_of(memory, *outcomes, now=minute_of(10))[0]) == []
    assert outages_of(shown(memory, minute_of(20))[0]) == [("silent", 1, 20)]
    assert outages_of(shown(memory, minute_of(2) + timedelta(days=-9))[0]) == []  # this machine's clock is wrong


def test_a_source_without_notices_is_silent_only_if_the_setting_names_it(memory):
    (found,) = coverage_of(memory, taken(0, 0), taken(1, 5), taken(2, 65))
    assert outages_of(found) == []
    (found,) = shown(memory, minute_of(66), source_silent_s="off,cam-1=600")
    assert outages_of(found) == [("silent", 5, 65)]
    (found,) = shown(memory, minute_of(66), source_silent_s="600,cam-1=off")
    assert outages_of(found) == []
