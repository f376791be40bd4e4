"""Lanes without lag whose last run may have kept something to itself.

A run that dies between a segment and Dagster's event leaves a day of which Dagster knows nothing, and its tables are
not built. The next run reports such days again, but where no frame follows, lag asks for no next run. Owns the decision
to start one all the same, as a pure function. A run that was cancelled has reported, and asks for none; the days of a
dead process that somebody marked as cancelled by force wait for the next frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from imgpipeline.stream.lanes import FailedRun, Lane, LiveRun, PartitionView, Start, back_off_s


@dataclass(frozen=True, slots=True)
class GoodRun:
    """A detection run that ended in order: it has reported what runs before it may have kept to themselves."""

    lane: Lane
    """What it followed."""
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
    """Decides which lanes without lag get a run that reports again.

    Args:
        partitions: All partitions of the topic.
        runs: The detection runs that have not ended.
        failures: The runs that failed lately, in any order.
        good_runs: The runs that ended in order since the first of these failures.
        lanes: How many lanes there are.
        retry_pause_s: Pause after the first failed run, in seconds; it doubles with each further one.
        now: The clock, UTC.

    Returns:
        At most one run for each lane: where one failed, none ended in order since, and none is live.
    """
    starts = []
    for lane in (Lane(number, lanes) for number in range(lanes)):
        own = [view for view in partitions if lane.covers(view.partition)]
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
    return any(lane.covers(view.partition) for view in partitions)
