"""Decides which lanes without lag get a run that reports again the days that a failed run may not have reported.

A run that dies between writing a segment and Dagster's event leaves a day that Dagster does not know of, so its tables
are not built. The next run reports such days again, but without further frames no lag starts a next run. A cancelled
run has reported its days; the days of a dead process that was marked as cancelled by force wait for the next frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from imgpipeline.stream.lanes import FailedRun, Lane, LiveRun, PartitionView, Start, back_off_s


@dataclass(frozen=True, slots=True)
class GoodRun:
    """A detection run that ended normally: it has reported all days, also those of earlier failed runs."""

    lane: Lane
    """The lane that it followed."""
    began_at: datetime
    """When its process started, UTC."""


def report_again(
    partitions: Sequence[PartitionView],
    runs: Sequence[LiveRun],
    failures: Sequence[FailedRun],
    good_runs: Sequence[GoodRun],
    *,
    lanes: int,
    retry_pause_s: float,
    now: datetime,
) -> list[Start]:
    """Decides which lanes without lag get a run that reports their days again.

    Args:
        partitions: All partitions of the topics.
        runs: The detection runs that have not ended.
        failures: The runs that failed recently, in any order.
        good_runs: The runs that ended normally since the first of these failures.
        lanes: How many lanes there are.
        retry_pause_s: Pause after the first failed run, in seconds; it doubles with each further one.
        now: The clock, UTC.

    Returns:
        At most one run per lane: for lanes in which one failed, none ended normally since, and none is live.
    """
    starts = []
    for lane in (Lane(number, lanes) for number in range(lanes)):
        own = [view for view in partitions if view.is_in(lane)]
        if any(view.lag for view in own) or any(_share(run.lane, own) for run in runs):
            continue
        silent = [failed for failed in failures if _share(failed.lane, own) and not _is_settled(failed, own, good_runs)]
        if not silent:
            continue
        last = max(silent, key=lambda failed: failed.ended_at)
        if now >= last.ended_at + timedelta(seconds=back_off_s(len(silent), retry_pause_s)):
            reason = f"Lane {lane} has no lag, but run {last.run_id[:8]} failed and may not have reported all its days."
            starts.append(Start(lane, 0, {}, reason))
    return starts


def _is_settled(failed: FailedRun, own: Sequence[PartitionView], good_runs: Sequence[GoodRun]) -> bool:
    return any(good.began_at >= failed.ended_at and _share(good.lane, own) for good in good_runs)


def _share(lane: Lane, partitions: Sequence[PartitionView]) -> bool:
    return any(view.is_in(lane) for view in partitions)
