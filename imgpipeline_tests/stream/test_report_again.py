"""Which lanes without lag get a run that reports the days that a failed run may not have reported."""

from datetime import UTC, datetime, timedelta

import pytest

from imgpipeline.stream.lanes import FailedRun, GoodRun, Lane, LaneStart, LiveRun, PartitionView, report_again

NOW = datetime(2026, 1, 9, 12, tzinfo=UTC)
EVERYTHING = Lane(0, 1)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def view(partition: int = 0, lag: int = 0) -> PartitionView:
    return PartitionView(partition, 100 + lag, 100, ago(600), ago(5) if lag else None)


def failed(seconds: float, lane: Lane = EVERYTHING) -> FailedRun:
    return FailedRun(f"failed-{seconds}", lane, ago(seconds), {})


def decision(
    views: list[PartitionView],
    failures: list[FailedRun],
    good: list[GoodRun] | None = None,
    live: tuple[LiveRun, ...] = (),
    lanes: int = 1,
) -> list[LaneStart]:
    return report_again(views, live, failures, good or [], lanes=lanes, retry_pause_s=10, now=NOW)


def test_after_a_failed_run_a_lane_without_lag_gets_one_that_reports_again() -> None:
    (start,) = decision([view()], [failed(11)])
    assert (start.lane, start.lag, dict(start.ends)) == (EVERYTHING, 0, {})
    assert "run failed-1 failed" in start.reason


@pytest.mark.parametrize(
    ("views", "failures", "good", "live"),
    [
        ([view()], [], [], ()),
        ([view(lag=3)], [failed(100)], [], ()),
        ([view()], [failed(100)], [GoodRun(EVERYTHING, ago(50))], ()),
        ([view()], [failed(100)], [], (LiveRun("live", EVERYTHING, ago(5)),)),
        ([view()], [failed(9)], [], ()),
        ([view()], [failed(19), failed(60)], [], ()),
        ([], [failed(100)], [], ()),
    ],
    ids=["no failure", "lag", "settled", "followed", "too early", "twice, too early", "no partition"],
)
def test_other_lanes_without_lag_get_no_run(
    views: list[PartitionView], failures: list[FailedRun], good: list[GoodRun], live: tuple[LiveRun, ...]
) -> None:
    assert decision(views, failures, good, live) == []


def test_a_good_run_that_began_before_the_failure_settles_nothing() -> None:
    """A run looks for unreported days only when it starts."""
    assert decision([view()], [failed(100)], [GoodRun(EVERYTHING, ago(101))])


def test_each_lane_answers_for_its_own_runs_however_many_lanes_there_were_then() -> None:
    views = [view(n) for n in range(4)]
    assert [start.lane for start in decision(views, [failed(100, Lane(1, 4))], lanes=2)] == [Lane(1, 2)]
    assert [start.lane for start in decision(views, [failed(100)], lanes=2)] == [Lane(0, 2), Lane(1, 2)]
    assert decision(views, [failed(100, Lane(0, 2))], [GoodRun(EVERYTHING, ago(9))], lanes=2) == []
