"""Lanes, and the decision which lanes get a detection run.

A lane is a share of the topics' partitions; one detection run follows one lane. The sensor's decision is a pure
function of the lag of each partition, live runs, failed runs, and the clock:

* A lane with lag and no run gets one, at the latest when its back-off is over.
* A lane gets no run while a run that makes progress follows all its partitions with lag.
* A run is overtaken only if it made no progress for `takeover_s` although its lane had lag all that time. The time
  doubles with each run that failed at the same ledger end, so that a slow start eventually gets enough time.
* After three runs whose process died or hung at one ledger end, the next run is careful: it searches for the record
  that causes this. Runs that failed with an error have named their reason and do not count.

A wrong decision costs work, never a frame, because the ledger takes every offset once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from imgpipeline.contracts.records import Partition
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import back_off_s
from imgpipeline.errors import ConfigurationError

LONGEST_BACK_OFF_S = 600.0
"""Longest pause. A fault that lasts an hour causes about ten failed runs."""
DEATHS_TO_CARE = 3
"""Number of runs that died or hung at one ledger end before a careful run."""
_LONGEST_PATIENCE_S = 3600.0


class Place(NamedTuple):
    """A partition with its topic given by position in the settings, which keeps tags short."""

    topic: int
    """Position of the topic in the list of topics, from 0."""
    partition: int


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """The partitions that one detection run follows: those whose number modulo `lanes` is `number`.

    With several topics, each topic starts with a different lane, so that topics with few partitions use all lanes.
    """

    number: int
    lanes: int
    """Number of lanes, at least 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.lanes:
            raise ConfigurationError(
                f"There is no lane {self.number} of {self.lanes}; lanes count from 0.",
                next_step="give a `lane` from 0 to `lanes` - 1, or omit both for all partitions",
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.lanes}"

    def covers(self, place: Place, topics: int = 1) -> bool:
        """Returns whether a partition belongs to this lane; `topics` is the number of topics."""
        return (place.partition + place.topic * self.lanes // topics) % self.lanes == self.number


def partitions_of(lane: Lane, partitions: Iterable[Partition], topics: Sequence[str]) -> list[Partition]:
    """Returns the sorted partitions of a lane."""
    places = ((at, Place(topics.index(at.topic), at.number)) for at in partitions)
    return sorted(at for at, place in places if lane.covers(place, len(topics)))


@dataclass(frozen=True, slots=True)
class PartitionView:
    """The progress of one partition, as the sensor sees it."""

    partition: int
    log_end: int
    ledger_end: int
    """First offset without an outcome. Greater than `log_end` only if ledger and log contradict each other."""
    moved_at: datetime
    """When the ledger's end was last seen to move, or was first seen, UTC."""
    behind_since: datetime | None
    """When the current, uninterrupted lag began, UTC; None without lag."""
    topic: int = 0
    """Position of the topic in the list of topics, from 0."""
    topics: int = 1

    @property
    def place(self) -> Place:
        """The partition and the position of its topic."""
        return Place(self.topic, self.partition)

    def is_in(self, lane: Lane) -> bool:
        """Returns whether the partition belongs to a lane."""
        return lane.covers(self.place, self.topics)

    @property
    def lag(self) -> int:
        """Offsets without an outcome; negative if the ledger is ahead of the log (a run then fails and says why)."""
        return self.log_end - self.ledger_end


class Ending(Enum):
    """How a failed run ended."""

    FAILED = "failed"
    DIED = "died"
    """The process ended without an error: a crash, a lack of memory, a kill."""
    HUNG = "hung"
    """The run made no progress and was overtaken. The death of a process in another container looks like this."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A detection run that has not ended according to Dagster."""

    run_id: str
    lane: Lane
    began_at: datetime
    """When the run started; until then when it was launched, and until then when it was requested, UTC."""
    is_queued: bool = False
    """Whether the run waits for a slot. Such a run is not overtaken, since another run would wait too."""
    is_gone: bool = False
    ends: Mapping[Place, int] = field(default_factory=dict)
    """Ledger end of each partition that had lag when the run was requested; empty if it has not started to work."""

    def ended(self, ending: Ending, now: datetime) -> "FailedRun":
        """Returns the run as failed just now, so that it counts in the same tick."""
        return FailedRun(self.run_id, self.lane, now, self.ends, ending)


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A detection run that failed."""

    run_id: str
    lane: Lane
    ended_at: datetime
    ends: Mapping[Place, int]
    """Ledger end of each partition that had lag when the run was requested."""
    ending: Ending = Ending.FAILED
    reason: str = ""
    """The error with which the run ended; empty if unknown."""


@dataclass(frozen=True, slots=True)
class LaneStart:
    """A run to request."""

    lane: Lane
    lag: int
    ends: Mapping[Place, int]
    reason: str
    is_careful: bool = False
    """Whether the run should search for a record that kills its process."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The sensor's actions in one tick."""

    starts: tuple[LaneStart, ...] = ()
    overtaken: Mapping[str, str] = field(default_factory=dict)
    waiting: tuple[str, ...] = ()
    failing: tuple[FailedRun, ...] = ()
    """The runs that failed at the current ledger end of the lane with the most such runs, oldest first."""


def decide(
    partitions: Sequence[PartitionView],
    runs: Sequence[LiveRun],
    failures: Sequence[FailedRun],
    *,
    lanes: int,
    takeover_s: float,
    retry_pause_s: float,
    now: datetime,
) -> Decision:
    """Decides which lanes get a run.

    Args:
        failures: The runs that failed recently, in any order.
        takeover_s: How long a run may make no progress while its lane has lag, in seconds.
        retry_pause_s: Pause after the first run that failed at one ledger end, in seconds.
    """
    starts: list[LaneStart] = []
    overtaken = {run.run_id: "its process is gone" for run in runs if run.is_gone}
    failures = [*failures, *(run.ended(Ending.DIED, now) for run in runs if run.is_gone)]
    waiting: list[str] = []
    failing: list[FailedRun] = []
    for lane in (Lane(number, lanes) for number in range(lanes)):
        behind = [view for view in partitions if view.is_in(lane) and view.lag]
        if not behind:
            continue
        failing = max(failing, _failures_at(behind, failures), key=len)
        alive = [run for run in runs if not run.is_gone and any(v.is_in(run.lane) for v in behind)]
        stalled = {
            run.run_id: f"it made no progress for {idle_s:.0f} s while its lane had lag; it has been running for "
            f"{(now - run.began_at).total_seconds():.0f} s"
            for run in alive
            if (idle_s := _idle_s(run, partitions, now)) > _patience_s(run.lane, behind, failures, takeover_s)
        }
        healthy = [run for run in alive if run.run_id not in stalled]
        reason = _why_wait(behind, healthy, failures, bool(stalled), retry_pause_s, now)
        if reason is not None:
            waiting.append(f"Lane {lane} is {counted(_lag(behind), 'offset')} behind: {reason}")
            continue
        overtaken.update(stalled)
        hung = [run.ended(Ending.HUNG, now) for run in alive if run.run_id in stalled]
        starts.append(_start(lane, behind, [*failures, *hung], takes_over=bool(stalled)))
    return Decision(tuple(starts), overtaken, tuple(waiting), tuple(failing))


def _why_wait(
    behind: Sequence[PartitionView],
    healthy: Sequence[LiveRun],
    failures: Sequence[FailedRun],
    has_takeover: bool,
    retry_pause_s: float,
    now: datetime,
) -> str | None:
    """Returns why a lane gets no run now, or None if it gets one."""
    if all(any(view.is_in(run.lane) for run in healthy) for view in behind):
        queued = [run for run in healthy if run.is_queued]
        if queued:
            return f"run {queued[0].run_id[:8]} waits for a slot (run_coordinator in dagster.yaml)."
        return f"run {healthy[0].run_id[:8]} follows it."
    if has_takeover:
        return None
    failed = _failures_at(behind, failures)
    if not failed:
        return None
    pause_s = back_off_s(len(failed), retry_pause_s, LONGEST_BACK_OFF_S)
    again_at = max(failure.ended_at for failure in failed) + timedelta(seconds=pause_s)
    if now >= again_at:
        return None
    return (
        f"{counted(len(failed), 'run')} failed at this ledger end, the last was {failed[-1].run_id[:8]}; "
        f"next try at {again_at:%H:%M:%S} UTC."
    )


def _failures_at(behind: Sequence[PartitionView], failures: Sequence[FailedRun]) -> list[FailedRun]:
    """Returns the runs that failed at the current ledger end of the partition with the most failures, oldest first."""
    most: list[FailedRun] = []
    for view in behind:
        at, end = view.place, view.ledger_end
        most = max(most, [f for f in failures if view.is_in(f.lane) and f.ends.get(at) == end], key=len)
    return sorted(most, key=lambda failure: failure.ended_at)


def _idle_s(run: LiveRun, partitions: Sequence[PartitionView], now: datetime) -> float:
    """Returns how long a run has made no progress although it could have."""
    if run.is_queued:
        return 0.0
    own = [view for view in partitions if view.is_in(run.lane)]
    behind_since = [view.behind_since or now for view in own if view.lag]
    signs_of_life = [run.began_at, *(view.moved_at for view in own), min(behind_since, default=now)]
    return (now - max(signs_of_life)).total_seconds()


def _patience_s(lane: Lane, behind: Sequence[PartitionView], failures: Sequence[FailedRun], takeover_s: float) -> float:
    failed = len(_failures_at([view for view in behind if view.is_in(lane)], failures))
    return max(takeover_s, back_off_s(failed + 1, takeover_s, _LONGEST_PATIENCE_S))


def _start(
    lane: Lane, behind: Sequence[PartitionView], failures: Sequence[FailedRun], *, takes_over: bool
) -> LaneStart:
    reason = f"Lane {lane} is {counted(_lag(behind), 'offset')} behind"
    reason += " and its run made no progress." if takes_over else "."
    deaths = len(_failures_at(behind, [failure for failure in failures if failure.ending is not Ending.FAILED]))
    is_careful = deaths >= DEATHS_TO_CARE
    if is_careful:
        reason += f" {deaths} runs died or hung at this ledger end, so this run processes record by record, in a "
        "separate process."
    # A tag may not have room for all ends. The ends that have not moved for the longest time come first, because a
    # record that kills runs is at such an end.
    ends = {v.place: v.ledger_end for v in sorted(behind, key=lambda view: (view.moved_at, view.place))}
    return LaneStart(lane, _lag(behind), ends, reason, is_careful)


def _lag(behind: Sequence[PartitionView]) -> int:
    return sum(view.lag for view in behind)
