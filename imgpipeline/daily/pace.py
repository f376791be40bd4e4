"""When a due object of a day is built: pauses after builds, longer ones after failures, and days that share a run.

All of it is a pure function of what is due, the stored runs, and the clock.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import format_time, stretches
from imgpipeline.daily.objects import OBJECTS
from imgpipeline.daily.states import DayStates

SHORTEST_PAUSE_S = 60.0
"""Lower limit of the pause between two builds of an object of a day."""
LONGEST_PAUSE_S = 180.0
"""Upper limit of the pause, so a day whose build was slow on a busy machine does not stay stale."""
PAUSE_PER_BUILD_S = 20.0
"""The pause as a multiple of the duration of the last build, so builds leave most of the time to detection runs.
Queries read newer frames from the ledger."""
FAILURE_PAUSES_S = (10, 120, 240, 240, 240, 240, 480, 960, 1920, 3600)
"""Pause after the first, second, … consecutive failed build, in seconds; the last one applies to all further failures.

The first one is short because a run whose machine was lost fails too. The first six are shorter than five minutes,
so a day whose build was killed is built soon. In the long run, an object that can never be built costs one run per
hour."""
_SHOWN_DAYS = 5
_ALWAYS = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that was asked to build objects of days."""

    objects: frozenset[str]
    """The objects, by name."""
    first: date
    last: date
    """The last of its consecutive days."""
    began_at: datetime
    """When it started or, before that, was requested, UTC."""
    ended_at: datetime | None = None
    """UTC; None while it waits or runs."""
    has_failed: bool = False
    failed: frozenset[tuple[str, date]] | None = None
    """What a failed run could not build; None if it did not say so, as when its process was killed."""

    def covers(self, name: str, day: date) -> bool:
        """Tells whether the run was asked to build an object of a day."""
        return name in self.objects and self.first <= day <= self.last

    def failed_at(self, name: str, day: date) -> bool:
        """Tells whether the run could not build an object of a day."""
        return self.has_failed and (self.failed is None or (name, day) in self.failed)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run to request."""

    objects: tuple[str, ...]
    """The objects to build, by name."""
    days: tuple[date, ...]
    """Consecutive UTC days."""
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to request now, and what waits."""

    runs: tuple[Wanted, ...] = ()
    waiting: Mapping[date, datetime | None] = field(default_factory=dict)
    """Days that wait, with the end of their pause, UTC; None while a run builds them."""

    def explain(self) -> str:
        """Returns which days wait, and until when."""
        if not self.waiting:
            return "Nothing to build: every day's tables are current, or wait for a person."
        days = [
            f"{day} {f'until {format_time(until)}' if until else 'for the run that builds it'}"
            for day, until in sorted(self.waiting.items(), reverse=True)
        ]
        more = f", and {len(days) - _SHOWN_DAYS} more" if len(days) > _SHOWN_DAYS else ""
        return f"{counted(len(days), 'day')} to build. Waiting: {', '.join(days[:_SHOWN_DAYS])}{more}."


def plan(states: Mapping[date, DayStates], runs: Sequence[PastRun], *, now: datetime) -> Plan:
    """Decides which due objects are built now.

    Args:
        states: The result of `day_states`.
        runs: Runs of the last hours, in any order.
        now: The current time, UTC.
    """
    newest_first = sorted(runs, key=lambda run: run.began_at, reverse=True)
    chosen: dict[date, tuple[str, ...]] = {}
    waiting: dict[date, datetime | None] = {}
    for day, found in states.items():
        if not any(each.is_due for each in found.values()):
            continue
        until = {name: due_at(name, day, newest_first) for name in found}
        ready = _ready(found, until, now)
        if any(found[name].is_due and at is None for name, at in until.items()):
            waiting[day] = None
        elif ready:
            chosen[day] = ready
        else:
            waiting[day] = min(at for name, at in until.items() if at is not None and found[name].is_due)
    return Plan(tuple(_share(chosen, states, today=now.date())), waiting)


def _ready(found: DayStates, until: Mapping[str, datetime | None], now: datetime) -> tuple[str, ...]:
    """Returns the objects of a day to build now: those that are due, and those that read one of them."""
    ready: list[str] = []
    for name, each in found.items():
        at, own = until[name], OBJECTS[name]
        missing = [need for need in own.needs if found[need].is_due and need not in ready]
        is_changed = each.can_be_built and any(other in ready for other in own.inputs)
        if at is not None and at <= now and not missing and (each.is_due or is_changed):
            ready.append(name)
    return tuple(ready)


def due_at(name: str, day: date, newest_first: Iterable[PastRun]) -> datetime | None:
    """Returns when an object of a day may be built again, UTC; None while a run builds it."""
    failures: list[datetime] = []
    for run in newest_first:
        if not run.covers(name, day):
            continue
        if run.ended_at is None:
            return None
        if not run.failed_at(name, day):
            if failures:
                break
            took_s = (run.ended_at - run.began_at).total_seconds()
            pause_s = max(SHORTEST_PAUSE_S, min(LONGEST_PAUSE_S, PAUSE_PER_BUILD_S * took_s))
            return run.ended_at + timedelta(seconds=pause_s)
        failures.append(run.ended_at)
    if not failures:
        return _ALWAYS
    return max(failures) + timedelta(seconds=FAILURE_PAUSES_S[min(len(failures), len(FAILURE_PAUSES_S)) - 1])


def _share(
    chosen: Mapping[date, tuple[str, ...]], states: Mapping[date, DayStates], *, today: date
) -> Iterable[Wanted]:
    """Yields one run for each stretch of past days with the same objects, and one for each other day, newest first."""
    by_objects: dict[tuple[tuple[str, ...], bool], list[date]] = defaultdict(list)
    for day, objects in chosen.items():
        by_objects[objects, day < today].append(day)
    runs = [
        Wanted(objects, stretch, _why(states, objects, stretch))
        for (objects, _), days in by_objects.items()
        for stretch in stretches(days)
    ]
    return sorted(runs, key=lambda run: run.days[-1], reverse=True)


def _why(states: Mapping[date, DayStates], objects: Sequence[str], days: Sequence[date]) -> str:
    reasons = {f"{objects[0]}: {states[day][objects[0]].why}" for day in days}
    return "; ".join(sorted(reasons))
