"""The state of each source, from its notices and frames, and whether one is silent for too long."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import Frame, Outcome
from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.query.source_status import (
    Silence,
    SourceState,
    SourceStatus,
    judge_silence,
    read_source_status,
    source_status_of,
)
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.ledger.sessions import account, buried, minute_of, said, shot

pytestmark = pytest.mark.medium

STARTED, ENDED, OFFLINE, ONLINE = NoticeKind.STARTED, NoticeKind.ENDED, NoticeKind.OFFLINE, NoticeKind.ONLINE
LATER = DAY + timedelta(days=5)


def seen_at(offset: int, minute: float, **options: object) -> Frame:
    """Return a frame that was processed as soon as it was taken."""
    at = minute_of(minute)
    return replace(shot(offset, **options), timestamp=at, processing_timestamp=at)


def status_of(store: ObjectStore, *outcomes: Outcome, now: datetime, **settings: object) -> tuple[SourceStatus, ...]:
    """Return the status of the sources from stored summaries, which equals that from a session."""
    write_chain(store, outcomes)
    given = Settings(**settings)
    found = read_source_status(store, given, now=now)
    with open_lake(store, settings=given) as lake:
        assert source_status_of(lake, given, now=now) == found
    return found


@pytest.mark.parametrize(
    ("notices", "state", "reason"),
    [
        pytest.param([], SourceState.ONLINE, None, id="started"),
        pytest.param([said(3, OFFLINE, minute=2, reason="no route")], SourceState.OFFLINE, "no route", id="offline"),
        pytest.param(
            [said(3, OFFLINE, minute=2, reason="no route"), said(4, ONLINE, minute=3)],
            SourceState.ONLINE,
            None,
            id="back",
        ),
        pytest.param([said(3, ENDED, minute=2)], SourceState.ENDED, None, id="ended"),
    ],
)
def test_the_last_notice_decides_the_state_of_a_source(memory, notices, state, reason):
    (found,) = status_of(memory, said(0, STARTED), seen_at(1, 1), account(2, 1), *notices, now=minute_of(4))
    assert (found.source, found.state, found.reason) == ("cam-1", state, reason)


@pytest.mark.parametrize(
    ("limit", "state"),
    [
        pytest.param("900", SourceState.SILENT, id="over"),
        pytest.param("902", SourceState.ONLINE, id="within"),
        pytest.param("900,cam-1=off", SourceState.ONLINE, id="none"),
    ],
)
def test_a_source_is_silent_after_the_limit(memory, limit, state):
    now = minute_of(1) + timedelta(seconds=901)
    (found,) = status_of(memory, said(0, STARTED), seen_at(1, 1), now=now, source_silent_s=limit)
    assert (found.state, found.silent_s) == (state, 901)


@pytest.mark.parametrize(
    ("processed_at", "lag_s"),
    [pytest.param(1.5, 30.0, id="after"), pytest.param(0.5, 0.0, id="clock-of-the-camera-ahead")],
)
def test_the_lag_is_that_of_the_last_frame(memory, processed_at, lag_s):
    last = replace(seen_at(1, 1), processing_timestamp=minute_of(processed_at))
    (found,) = status_of(memory, seen_at(0, 0), last, now=minute_of(2))
    assert found.lag_s == lag_s


def test_a_source_without_frames_has_no_lag(memory):
    (found,) = status_of(memory, said(0, STARTED), account(1, 0), now=minute_of(2))
    assert found.lag_s is None


def test_a_limit_that_is_not_a_number_is_rejected(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_SOURCE_SILENT_S", "900,gate")
    with pytest.raises(ConfigurationError, match="900,gate=60,uploads=off"):
        load_settings()


@pytest.mark.medium
def test_counts_cover_the_current_day(memory):
    lost = account(6, 3, gated=5, dropped={"queue": 2}, failed=1, observed_s=60)
    one, two = status_of(
        memory,
        *(said(0, STARTED), seen_at(1, 1), seen_at(2, 2), seen_at(3, 2.5), shot(4, source="cam-2")),
        *(buried(5, "attributes"), lost, account(7, 0, day=DAY - timedelta(days=1), dropped={"queue": 70})),
        now=minute_of(3),
    )
    assert (one.frames_today, one.received_today, one.gated_today, one.failed_today) == (3, 11, 5, 1)
    assert (one.dropped_today, one.dead_letters_today, one.observed_today_s) == ({"queue": 2}, 1, 60.0)
    assert one.last_frame == minute_of(2.5)
    assert (two.source, two.last_notice, two.received_today, two.frames_today) == ("cam-2", None, None, 1)


@pytest.mark.parametrize(
    ("first", "rate"),
    [
        pytest.param(8.6, 1.0, id="young"),
        pytest.param(5.0, 1.0, id="five-minutes"),
        pytest.param(2.0, 1.0, id="old"),
        pytest.param(10.0, 0.0, id="one-frame"),
    ],
)
def test_the_rate_of_a_source_does_not_depend_on_its_age(memory, first, rate):
    seconds = round(60 * (10 - first))
    frames = [seen_at(number, first + number / 60) for number in range(seconds + 1)]
    (found,) = status_of(memory, *frames, now=minute_of(10))
    assert found.frames_per_s == pytest.approx(rate)


@pytest.mark.parametrize("code", ["attributes", "nothing"])
def test_a_bad_record_or_image_alone_is_no_source(memory, code):
    found = status_of(memory, said(0, STARTED), buried(1, code, source="typo", session="two"), now=minute_of(60))
    assert [one.source for one in found] == ["cam-1"]


@pytest.mark.medium
def test_a_source_of_an_earlier_day_is_listed_with_its_last_state(memory):
    now = minute_of(0, LATER)
    ended, lost = status_of(
        memory,
        *(said(0, STARTED), seen_at(1, 1), said(2, ENDED, minute=2)),
        *(said(3, STARTED, source="cam-2"), seen_at(4, 1, source="cam-2")),
        now=now,
    )
    assert (ended.state, ended.frames_today, ended.observed_today_s) == (SourceState.ENDED, 0, None)
    assert (lost.state, lost.last_frame) == (SourceState.SILENT, minute_of(1))
    assert read_source_status(memory, Settings(), now=now + timedelta(days=60)) == ()


def test_a_session_after_one_that_has_ended_is_online(memory):
    (found,) = status_of(memory, said(0, ENDED), said(1, STARTED, session="two", minute=1), now=minute_of(2))
    assert (found.state, found.frames_today, found.last_frame) == (SourceState.ONLINE, 0, None)


def test_an_import_is_not_silent(memory):
    imported = ChainId("import.csv", "detections", 0)
    write_chain(memory, [replace(shot(0, session=None), topic=imported.topic)], chain=imported)
    (found,) = read_source_status(memory, Settings(), now=minute_of(60))
    assert (found.state, found.reason) == (SourceState.ENDED, "imported")


def silence_of(store: ObjectStore, *outcomes: Outcome, now: datetime, **settings: object) -> Silence:
    return judge_silence(
        status_of(store, *outcomes, now=now, **settings), Settings(**settings).source_silent_s, now=now
    )


@pytest.mark.parametrize(
    ("last", "said_of_it"),
    [
        pytest.param([], "cam-1 has been silent since 2026-01-09T12:01:00Z, longer than 900 s", id="silent"),
        pytest.param([said(2, ENDED, minute=1)], None, id="ended"),
        pytest.param(
            [said(2, OFFLINE, minute=1, reason="no route"), account(3, 0, minute=16)],
            "cam-1 has been offline (no route) since 2026-01-09T12:01:00Z, longer than 900 s",
            id="offline",
        ),
        pytest.param([said(2, OFFLINE, minute=1), said(3, ONLINE, minute=10)], None, id="online-again"),
        pytest.param([account(2, 0, minute=10)], None, id="accounts-without-frames"),
        pytest.param(
            [said(2, ENDED, minute=0.5, session="other"), said(3, STARTED, minute=1, session="again")],
            "cam-1 has been silent since 2026-01-09T12:01:00Z, longer than 900 s",
            id="taken-back",
        ),
    ],
)
def test_a_source_with_an_open_session_must_not_stay_silent(memory, last, said_of_it):
    found = silence_of(memory, said(0, STARTED), account(1, 0, minute=0), *last, now=minute_of(16.1))
    assert found.found == ({"cam-1": said_of_it} if said_of_it else {})
    assert ("None of 1 source" in found.said) == (said_of_it is None)


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        pytest.param("900", [], id="not-named"),
        pytest.param("900,cam-1=60", ["cam-1"], id="named"),
    ],
)
def test_a_source_without_notices_is_judged_if_it_is_named(memory, limit, found):
    assert list(silence_of(memory, shot(0, session=None), now=minute_of(60), source_silent_s=limit).found) == found


def test_a_source_stays_silent_over_days(memory):
    assert silence_of(memory, said(0, STARTED), shot(1), now=minute_of(1, DAY + timedelta(days=9))).found
    assert read_source_status(memory, Settings(), now=minute_of(1, DAY + timedelta(days=60))) == ()
