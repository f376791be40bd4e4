"""Plans: which frames of a source and day people count, so that the sample says something about all frames of the day.

A plan is a numbered log of create-only draws, so a sample can be extended but never exchanged. Each draw records which
frames it is about by the ends of the chains, which hold when the day grows, is processed again or is repaired.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from math import ceil
from typing import Any
from uuid import uuid4

from pydantic import TypeAdapter

from imgpipeline.accuracy.sampling import asking_order, draw_runs, in_tenth, run_bounds, seed_of
from imgpipeline.contracts.keys import (
    ACCURACY_ANSWERS,
    ACCURACY_CHANGED,
    ACCURACY_PLANS,
    accuracy_changed_key,
    numbered_key,
    parse_day,
    parse_number,
    plan_prefix,
)
from imgpipeline.contracts.times import Timestamp, format_time
from imgpipeline.errors import UsageError
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.numbered import create_object, read_typed

LEAST_LATER = 10
"""Least samples of the frames that came after a plan: fewer say nothing about the spread of their errors."""
Place = tuple[datetime, str]
"""Time and id of a frame. Populations are in this order."""


@dataclass(frozen=True)
class Draw:
    """One draw of a plan: of the frames that came after the earlier draws, or one more frame of each run of the plan.

    Attributes:
        ends: The draw is about the frames below these offsets that no earlier draw is about, by the name of the chain.
        size: Frames in the draw's own population; 0 if it draws one more frame of each run.
        starts: Time and id of the first frame of each of its own runs, in order.
        samples: The frame drawn from each of its own runs, or from all runs of the plan; None for a run that has none
            left.
        line: For slices of time in place of frames: the line whose crossings people count, as configured at that time.
    """

    day: date
    source: str
    number: int
    ends: Mapping[str, int]
    size: int
    seed: str
    labels: tuple[str, ...]
    starts: tuple[tuple[Timestamp, str], ...]
    samples: tuple[str | None, ...]
    made_at: Timestamp
    by: str
    line: Mapping[str, Any] | None = None

    @property
    def sizes(self) -> list[int]:
        """The number of frames in each of its own runs when it was drawn."""
        return [stop - start for start, stop in run_bounds(self.size, len(self.starts))] if self.starts else []


@dataclass(frozen=True)
class Plan:
    """The draws of a source and day, in order. Its runs are numbered from 0 through all draws."""

    draws: tuple[Draw, ...]

    @property
    def day(self) -> date:
        """UTC day."""
        return self.draws[0].day

    @property
    def source(self) -> str:
        """The camera, video or folder."""
        return self.draws[0].source

    @property
    def line(self) -> Mapping[str, Any] | None:
        """The line whose crossings people count; None if they count the objects in frames."""
        return self.draws[0].line

    @property
    def line_name(self) -> str | None:
        """The name of the line."""
        return str(self.line["name"]) if self.line else None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that people count."""
        return self.draws[0].labels

    @property
    def strata(self) -> list[Draw]:
        """The draws that have a population of their own."""
        return [draw for draw in self.draws if draw.starts]

    @property
    def starts(self) -> list[tuple[int, datetime, str]]:
        """For each run, in order: the index of its stratum, and the least time and id of its frames.

        The first run of a stratum also has the frames before its start that came later.
        """
        before = (datetime.min.replace(tzinfo=UTC), "")
        return [(stratum, *start) for stratum, draw in enumerate(self.strata) for start in (before, *draw.starts[1:])]

    @cached_property
    def run_of(self) -> dict[str, int]:
        """The run of each sample."""
        found: dict[str, int] = {}
        behind = 0
        for draw in self.draws:
            first = behind if draw.starts else 0
            behind += len(draw.starts)
            found |= {sample: first + run for run, sample in enumerate(draw.samples) if sample is not None}
        return found

    @cached_property
    def samples(self) -> tuple[str, ...]:
        """The samples in the order in which people are asked, so that the first answers are a random part of a draw."""
        return tuple(
            sample
            for draw in self.draws
            for sample in asking_order([sample for sample in draw.samples if sample is not None], draw.seed)
        )

    def is_blind(self, frame_id: str) -> bool:
        """Returns whether people count a sample without boxes and without the model's number, as all slices."""
        return self.line is not None or in_tenth("blind", self.draws[0].seed, frame_id)

    def is_for_two(self, frame_id: str) -> bool:
        """Returns whether two people count a sample."""
        return in_tenth("two", self.draws[0].seed, frame_id)


@dataclass(frozen=True)
class Population:
    """The processed frames of a source and day at one moment, as a plan divides them.

    Attributes:
        ends: The ends of the chains up to which these are all processed frames, by the name of the chain.
        runs: The ids of the frames of each run of the plan, in order; none without a plan.
        later: The frames that the plan is not about yet, in order; without a plan all frames.
        labels: What the model found in them.
    """

    day: date
    source: str
    ends: Mapping[str, int]
    runs: Mapping[int, Sequence[str]]
    later: Sequence[Place]
    labels: Sequence[str] = ()


_DRAW = TypeAdapter(Draw)


def make_plan(
    store: ObjectStore,
    population: Population,
    *,
    labels: Iterable[str] = (),
    samples: int,
    by: str,
    at: datetime,
    line: Mapping[str, Any] | None = None,
) -> Draw:
    """Draws one frame from each of `samples` equal runs of a population that has no plan yet.

    Args:
        labels: What people count; empty: what the model found.
        line: For a population of slices: the line whose crossings people count.

    Returns:
        The stored draw: an earlier one if the source and day have a plan already.

    Raises:
        UsageError: There is nothing to draw, or to count.
        PermanentError: The stored draw is damaged.
        TransientError: The store does not answer.
    """
    counted, frames = tuple(sorted(set(labels or population.labels))), population.later
    if not frames or not counted:
        raise UsageError(
            f"{population.source} has no {'labels to count' if frames else 'processed frames'} on {population.day}.",
            next_step="name the labels: --label person" if frames else "see: imgpipeline summary sources",
        )
    return _create(store, replace(_draw(population, samples), labels=counted, by=by, made_at=at, line=line))


def extend_plan(
    store: ObjectStore, plan: Plan, population: Population, *, by: str, at: datetime, samples: int | None = None
) -> Draw:
    """Draws samples of the frames that came after the plan, or without such frames, one more frame of each run.

    Args:
        samples: How many of the later frames; default: as large a part as in the first draw.

    Returns:
        The stored draw: the one of another caller who extended the same plan first.

    Raises:
        UsageError: All frames are samples already.
        PermanentError: The stored draw is damaged.
        TransientError: The store does not answer.
    """
    first, later = plan.draws[0], population.later
    if later:
        made = _draw(population, samples or max(LEAST_LATER, ceil(len(later) * len(first.starts) / first.size)))
    else:
        made = replace(plan.draws[-1], size=0, seed=first.seed, starts=(), samples=_more(plan, population))
        if not any(made.samples):
            raise UsageError(
                f"All frames of {plan.source} on {plan.day} are in the sample already.",
                next_step="count them: imgpipeline accuracy status",
            )
    made = replace(made, number=plan.draws[-1].number + 1, labels=plan.labels, line=plan.line, by=by, made_at=at)
    return _create(store, made)


def _more(plan: Plan, population: Population) -> tuple[str | None, ...]:
    """Draws one frame from each run. The seed stays the plan's: what the answers show must not choose the sample."""
    taken, seed, runs = {0: frozenset(plan.run_of)}, plan.draws[0].seed, range(len(plan.starts))
    return tuple(draw_runs(population.runs.get(run, ()), 1, seed, taken)[0] for run in runs)


def _draw(population: Population, samples: int) -> Draw:
    places, day, source = population.later, population.day, population.source
    frame_ids = [frame_id for _, frame_id in places]
    seed, runs = seed_of(day, source, frame_ids), min(samples, len(frame_ids))
    starts = tuple(places[start] for start, _ in run_bounds(len(frame_ids), runs))
    drawn, ends = tuple(draw_runs(frame_ids, runs, seed)), dict(population.ends)
    return Draw(day, source, 1, ends, len(frame_ids), seed, (), starts, drawn, places[0][0], "")


def _create(store: ObjectStore, draw: Draw) -> Draw:
    key = numbered_key(plan_prefix(draw.day, draw.source, Plan((draw,)).line_name), draw.number)
    create_object(store, key, {**_DRAW.dump_python(draw, mode="json"), "writer": uuid4().hex})
    stored = _read(store, key)
    note_change(store, draw.day, draw.made_at)
    return stored


def read_plan(store: ObjectStore, day: date, source: str, line: str | None = None) -> Plan | None:
    """Returns the plan of a source, or of one of its lines, on a day, or None if nobody has made one.

    Raises:
        PermanentError: A draw is damaged.
        TransientError: The store does not answer.
    """
    return _read_chain(store, plan_prefix(day, source, line))


def read_plans(store: ObjectStore, day: date) -> list[Plan]:
    """Returns the plans of frames of a day, by source, and then the plans of lines; errors as of `read_plan`."""
    keys = [info.key for info in store.list_objects(f"{ACCURACY_PLANS}/day={day.isoformat()}")]
    found = (_read_chain(store, key.rpartition("/")[0]) for key in keys if parse_number(key) == 1)
    return sorted((plan for plan in found if plan), key=lambda plan: (plan.line_name or "", plan.source))


def _read_chain(store: ObjectStore, prefix: str) -> Plan | None:
    """Reads the draws below a prefix by their numbers, as a listing may miss one."""
    draws: list[Draw] = []
    with suppress(ObjectMissingError):
        while True:
            draws.append(_read(store, numbered_key(prefix, len(draws) + 1)))
    return Plan(tuple(draws)) if draws else None


def days_with_plans(store: ObjectStore) -> dict[date, str]:
    """Returns the days that have plans, each with an e-tag that changes with its plans and answers; two listings."""
    changed = {info.key: str(info.e_tag) for info in store.list_objects(ACCURACY_CHANGED)}
    days = (parse_day(f"/{folder}/") for folder in store.list_folders(ACCURACY_PLANS))
    return {day: changed.get(accuracy_changed_key(day), "") for day in days if day}


def list_inputs(store: ObjectStore, day: date) -> list[str]:
    """Returns the sorted keys of a day's draws and answers, which are never replaced."""
    prefixes = (f"{prefix}/day={day.isoformat()}" for prefix in (ACCURACY_PLANS, ACCURACY_ANSWERS))
    return sorted(info.key for prefix in prefixes for info in store.list_objects(prefix))


def note_change(store: ObjectStore, day: date, at: datetime) -> None:
    """Says that a day has a new draw or answer, after it is stored; a retry of the caller repeats both."""
    store.put(accuracy_changed_key(day), json.dumps({"at": format_time(at), "token": uuid4().hex}).encode())


def _read(store: ObjectStore, key: str) -> Draw:
    return read_typed(store, key, _DRAW, expected="a draw of frames")


def plan_command(day: date, source: str, line: str | None = None) -> str:
    """Returns the command that makes the plan of a source or line."""
    of_line = f" --line {shlex.quote(line)}" if line else ""
    return f"imgpipeline accuracy plan --day {day} --source {shlex.quote(source)}{of_line}"
