"""Which sources are silent for too long, by the stored tables."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.summaries import build_summary
from imgpipeline.lake.query.source_silence import Silence, judge_silence
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.samples import DAY, append, write_chain
from imgpipeline_tests.ledger.sessions import account, minute_of, said, shot

pytestmark = pytest.mark.medium

STARTED, ENDED, OFFLINE, ONLINE = NoticeKind.STARTED, NoticeKind.ENDED, NoticeKind.OFFLINE, NoticeKind.ONLINE
BUILT = minute_of(2)


def build(store: ObjectStore, at: datetime = BUILT) -> None:
    rebuild_day(store, DAY, now=at)
    build_summary(store, "source_activity", DAY, settings=Settings(), now=at)


def silence_of(store: ObjectStore, *outcomes: Outcome, minute: float, **settings: object) -> Silence:
    write_chain(store, outcomes)
    build(store)
    return judge_silence(store, Settings(**settings), now=minute_of(minute))


@pytest.mark.parametrize(
    ("last", "said_of_it"),
    [
        pytest.param([], "cam-1 is silent since 2026-01-09T12:01:00Z, longer than 900 s", id="silent"),
        pytest.param([said(2, ENDED, minute=1)], None, id="ended"),
        pytest.param(
            [said(2, OFFLINE, minute=1, reason="no route"), account(3, 0, minute=16)],
            "cam-1 is offline (no route) since 2026-01-09T12:01:00Z, longer than 900 s",
            id="offline",
        ),
        pytest.param([said(2, OFFLINE, minute=1), said(3, ONLINE, minute=10)], None, id="online-again"),
        pytest.param([account(2, 0, minute=10)], None, id="accounts-without-frames"),
    ],
)
def test_a_source_with_an_open_session_must_not_stay_silent(
    memory: ObjectStore, last: list[Notice], said_of_it: str | None
):
    found = silence_of(memory, said(0, STARTED), account(1, 0, minute=0), *last, minute=16.1)
    assert found.found == ({"cam-1": said_of_it} if said_of_it else {})
    assert ("None of 1 source" in found.said) == (said_of_it is None)


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        pytest.param("900", [], id="not-named"),
        pytest.param("900,cam-1=60", ["cam-1"], id="named"),
        pytest.param("off", [], id="off"),
    ],
)
def test_a_source_without_notices_is_judged_if_it_is_named(memory: ObjectStore, limit: str, found: list[str]):
    assert list(silence_of(memory, shot(0, session=None), minute=60, source_silent_s=limit).found) == found


def test_a_source_stays_silent_over_days(memory: ObjectStore):
    write_chain(memory, [said(0, STARTED), shot(1)])
    build(memory)
    assert judge_silence(memory, Settings(), now=minute_of(1, DAY + timedelta(days=9))).found
    assert judge_silence(memory, Settings(), now=minute_of(1, DAY + timedelta(days=60))).sources == 0


def test_tables_that_are_behind_the_ledger_are_judged_as_of_their_build(memory: ObjectStore):
    made = write_chain(memory, [said(0, STARTED), replace(shot(1), timestamp=minute_of(1))])
    build(memory)
    now = minute_of(60)
    assert judge_silence(memory, Settings(), now=now).found
    append(made, [shot(2)])
    assert not judge_silence(memory, Settings(), now=now).found
    build(memory, now)
    assert judge_silence(memory, Settings(), now=now).found
