"""Lanes, and the decision which of them get a detection run.

A lane is a share of the topics' partitions; one detection run follows one lane. The sensor's decision is a pure
function of the lag of each partition, live runs, failed runs, and the clock:

* A lane with lag and no run gets one, at the latest when its back-off is over.
* A lane gets no run while a run that makes progress follows all its partitions with lag.
* A run is overtaken only if it made no progress for `takeover_s` although its lane had lag all that time (twice as
  long after each run that failed at the same ledger end, so that a slow start gets enough time eventually).
* After three runs whose process died or hung at one ledger end, the next run is careful: it looks for the record that
  causes it. Runs that failed with an error know the reason, and do not count.

A wrong decision costs work, never a frame: the ledger takes every offset once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from imgpipeline.contracts.records import Partition
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError

LONGEST_BACK_OFF_S = 600.0
"""Longest pause: a fault that lasts an hour makes about ten failed runs."""
DEATHS_TO_CARE = 3
"""Runs that died or hung at one ledger end, before one is careful there."""
_LONGEST_PATIENCE_S = 3600.0


class Place(NamedTuple):
    """A partition by the place of its topic in the settings, which tags and tests can name shortly."""

    topic: int
    """Place of its topic in the list of topics, from 0."""
    partition: int
    """Kafka partition, from 0."""


@dataclass(frozen=True, slots=True, order=True)
class Lane:
    """The partitions that one detection run follows: those whose number leaves `number` when divided by `lanes`.

    Of several topics, the partitions of each begin with another lane, so that topics of few partitions share all lanes.
    """

    number: int
    """From 0 to `lanes` - 1."""
    lanes: int
    """How many lanes there are, at least 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.lanes:
            raise ConfigurationError(
                f"There is no lane {self.number} of {self.lanes}; lanes count from 0.",
                next_step="give a `lane` from 0 to `lanes` - 1, or neither for all partitions",
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.lanes}"

    def covers(self, place: Place, topics: int = 1) -> bool:
        """Tells whether a partition belongs to this lane; `topics` is how many topics are followed."""
        return (place.partition + place.topic * self.lanes // topics) % self.lanes == self.number


def partitions_of(lane: Lane, partitions: Iterable[Partition], topics: Sequence[str]) -> list[Partition]:
    """Returns those of the partitions that belong to a lane, sorted.

    Args:
        lane: The lane.
        partitions: All partitions of the topics.
        topics: The topics in the order of the settings.
    """
    places = ((at, Place(topics.index(at.topic), at.number)) for at in partitions)
    return sorted(at for at, place in places if lane.covers(place, len(topics)))


@dataclass(frozen=True, slots=True)
class PartitionView:
    """How far one partition was taken, as the sensor sees it."""

    partition: int
    """Kafka partition, from 0."""
    log_end: int
    """Last stable offset of the log."""
    ledger_end: int
    """First offset without an outcome. Greater than `log_end` only if ledger and log contradict each other."""
    moved_at: datetime
    """When the ledger's end was last seen to move (or was seen first), UTC."""
    behind_since: datetime | None
    """Since when it has had lag without a pause, UTC; None without lag."""
    topic: int = 0
    """Place of its topic in the list of topics, from 0."""
    topics: int = 1
    """How many topics are followed."""

    @property
    def place(self) -> Place:
        """Which partition of which topic it is."""
        return Place(self.topic, self.partition)

    def is_in(self, lane: Lane) -> bool:
        """Tells whether it belongs to a lane."""
        return lane.covers(self.place, self.topics)

    @property
    def lag(self) -> int:
        """Offsets without an outcome; negative if the ledger is beyond the log (a run then says so loudly)."""
        return self.log_end - self.ledger_end


class Ending(Enum):
    """How a run that failed has ended."""

    FAILED = "failed"
    """With an error that it could say itself."""
    DIED = "died"
    """Its process was gone before it could say anything: a crash, a lack of memory, a kill."""
    HUNG = "hung"
    """It made no progress and was taken over. Of a process in another container that is all that is seen of a death."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A detection run that has not ended, as far as Dagster knows."""

    run_id: str
    """Dagster's id."""
    lane: Lane
    """What it follows."""
    began_at: datetime
    """When it started; before that when it was launched, and before that when it was requested, UTC."""
    is_queued: bool = False
    """Whether it waits for a slot; such a run is not overtaken, since another one would wait too."""
    is_gone: bool = False
    """Whether its process is known to be gone."""
    ends: Mapping[Place, int] = field(default_factory=dict)
    """Ledger end of each partition that had lag when the run was requested; none if it has not begun to work."""

    def ended(self, ending: Ending, now: datetime) -> "FailedRun":
        """Returns this run as one that ended just now: it counts in the tick that finds it, not only in the next."""
        return FailedRun(self.run_id, self.lane, now, self.ends, ending)


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A detection run that failed."""

    run_id: str
    """Dagster's id."""
    lane: Lane
    """What it followed."""
    ended_at: datetime
    """When it failed, UTC."""
    ends: Mapping[Place, int]
    """Ledger end of each partition that had lag when the run was requested."""
    ending: Ending = Ending.FAILED
    """How it has ended."""


@dataclass(frozen=True, slots=True)
class Start:
    """A run to be requested."""

    lane: Lane
    """What it follows."""
    lag: int
    """Offsets without an outcome in the lane."""
    ends: Mapping[Place, int]
    """Ledger end of each partition with lag."""
    reason: str
    """Why now, for a person."""
    is_careful: bool = False
    """Whether it is to look for a record by which runs die."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the sensor does in one tick."""

    starts: tuple[Start, ...] = ()
    """Runs to request, at most one a lane."""
    overtaken: Mapping[str, str] = field(default_factory=dict)
    """Runs to mark as failed, with the reason."""
    waiting: tuple[str, ...] = ()
    """For each lane with lag that gets no run: why, for a person."""


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
        partitions: All partitions of the topics.
        runs: The detection runs that have not ended.
        failures: The runs that failed lately, in any order.
        lanes: How many lanes there are.
        takeover_s: How long a run may make no progress while its lane has lag, in seconds.
        retry_pause_s: Pause after the first run that failed at one ledger end, in seconds.
        now: The clock, UTC.

    Returns:
        Runs to start, runs to mark as failed, and why other lanes wait.
    """
    starts: list[Start] = []
    overtaken = {run.run_id: "its process is gone" for run in runs if run.is_gone}
    failures = [*failures, *(run.ended(Ending.DIED, now) for run in runs if run.is_gone)]
    waiting: list[str] = []
    for lane in (Lane(number, lanes) for number in range(lanes)):
        behind = [view for view in partitions if view.is_in(lane) and view.lag]
        if not behind:
            continue
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
    return Decision(tuple(starts), overtaken, tuple(waiting))


def back_off_s(failures: int, first_s: float) -> float:
    """Returns the pause after so many failures at one ledger end, in seconds; `first_s` is the one after the first."""
    return min(LONGEST_BACK_OFF_S, first_s * 2.0 ** min(failures - 1, 30)) if failures else 0.0


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
    again_at = max(failure.ended_at for failure in failed) + timedelta(seconds=back_off_s(len(failed), retry_pause_s))
    if now >= again_at:
        return None
    return (
        f"{counted(len(failed), 'run')} failed at this ledger end, the last was {failed[-1].run_id[:8]}; "
        f"tried again at {again_at:%H:%M:%S} UTC."
    )


def _failures_at(behind: Sequence[PartitionView], failures: Sequence[FailedRun]) -> list[FailedRun]:
    """Returns the runs that failed at the present ledger end of the partition with the most failures, oldest first."""
    most: list[FailedRun] = []
    for view in behind:
        at, end = view.place, view.ledger_end
        most = max(most, [f for f in failures if view.is_in(f.lane) and f.ends.get(at) == end], key=len)
    return sorted(most, key=lambda failure: failure.ended_at)


def _idle_s(run: LiveRun, partitions: Sequence[PartitionView], now: datetime) -> float:
    """Returns for how long a run could have made progress and made none."""
    if run.is_queued:
        return 0.0
    own = [view for view in partitions if view.is_in(run.lane)]
    behind_since = [view.behind_since or now for view in own if view.lag]
    signs_of_life = [run.began_at, *(view.moved_at for view in own), min(behind_since, default=now)]
    return (now - max(signs_of_life)).total_seconds()


def _patience_s(lane: Lane, behind: Sequence[PartitionView], failures: Sequence[FailedRun], takeover_s: float) -> float:
    failed = len(_failures_at([view for view in behind if view.is_in(lane)], failures))
    return max(takeover_s, min(_LONGEST_PATIENCE_S, takeover_s * 2.0 ** min(failed, 30)))


def _start(lane: Lane, behind: Sequence[PartitionView], failures: Sequence[FailedRun], *, takes_over: bool) -> Start:
    reason = f"Lane {lane} is {counted(_lag(behind), 'offset')} behind"
    reason += " and its run made no progress." if takes_over else "."
    deaths = len(_failures_at(behind, [failure for failure in failures if failure.ending is not Ending.FAILED]))
    is_careful = deaths >= DEATHS_TO_CARE
    if is_careful:
        reason += f" {deaths} runs died or hung at this ledger end: it is processed record by record, in a separate "
        "process."
    # A tag may not hold all ends. Those that have not moved for the longest time come first: runs that die stop there.
    ends = {v.place: v.ledger_end for v in sorted(behind, key=lambda view: (view.moved_at, view.place))}
    return Start(lane, _lag(behind), ends, reason, is_careful)


def _lag(behind: Sequence[PartitionView]) -> int:
    return sum(view.lag for view in behind)
