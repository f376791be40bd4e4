"""Builds the objects of a day, each after those that it reads.

An object that cannot be built stops only those that need it. Dagster and the command `imgpipeline build` both build
through `build_day`.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from imgpipeline.contracts.times import Clock
from imgpipeline.daily.objects import COMPARISON, OBJECTS, REPORT, TABLES, TRACKS
from imgpipeline.errors import ImgpipelineError, PermanentError, TransientError
from imgpipeline.events.configuration import read_rules
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES, build_summary
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.tracks import TRACKS as TRACKS_TABLE
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.objectstore import ForbiddenError, ObjectStore
from imgpipeline.redetect.pairs import sides_of
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class ObjectBuild:
    """The outcome of building one object of a day."""

    name: str
    """As in `OBJECTS`."""
    day: date
    result: Any = None
    """What its own build function returns; `skipped` tells whether it was current. None if it was not built."""
    error: ImgpipelineError | None = None
    """Why it was not built."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How days are built."""

    force: bool = False
    """Build objects again even if they are current."""
    seal: bool = False
    """Read days whose tables were extended as a whole, and compare the result with the tables."""
    keeps_rules: bool = False
    """Past days keep the rules of their stored tables."""


def build_day(
    store: ObjectStore, settings: Settings, day: date, names: Collection[str], options: BuildOptions, *, clock: Clock
) -> Iterator[ObjectBuild]:
    """Builds objects of a day unless they are current.

    Args:
        store: The object store.
        settings: The settings of the builds.
        day: UTC day.
        names: Keys of `OBJECTS`.
        options: How to build.
        clock: Tells the time.

    Yields:
        The outcome of each object that was tried. An object that needs one that failed is not tried. The outcome of a
        comparison of models, on a day that no model has re-processed, has neither result nor error.

    Raises:
        ForbiddenError: The store refuses access.
        TransientError: Two objects in a row could not be built for lack of the store or of resources.
    """
    failed: set[str] = set()
    was_transient = False
    for name in (name for name in OBJECTS if name in names):
        if failed.intersection(OBJECTS[name].needs):
            failed.add(name)
            continue
        try:
            is_left_out = name == COMPARISON and len(sides_of(store, day)) == 1
            task = _Task(store, settings, day, name, options, clock())
            built = ObjectBuild(name, day, None if is_left_out else _BUILDERS.get(name, _build_rules)(task))
            was_transient = False
        except ForbiddenError:
            raise
        except ImgpipelineError as error:
            if was_transient and isinstance(error, TransientError):
                raise
            was_transient = isinstance(error, TransientError)
            failed.add(name)
            built = ObjectBuild(name, day, error=error)
        yield built


@dataclass(frozen=True, slots=True)
class _Task:
    store: ObjectStore
    settings: Settings
    day: date
    name: str
    options: BuildOptions
    now: datetime


def _build_tables(task: _Task) -> Any:
    limits = BuildLimits.of(task.settings)
    force, seal = task.options.force, task.options.seal
    return rebuild_day(task.store, task.day, force=force, seal=seal, now=task.now, limits=limits)


def _build_summary(task: _Task) -> Any:
    force = task.options.force
    return build_summary(task.store, task.name, task.day, settings=task.settings, force=force, now=task.now)


def _build_tracks(task: _Task) -> Any:
    """Builds tracks, after those of its neighbours: their first and last slices read rows of this day."""
    from imgpipeline.tracking.day_tracks import build_tracks  # noqa: PLC0415 - loads numpy and pyarrow

    for beside in (task.day - timedelta(days=1), task.day + timedelta(days=1)):
        if task.store.head(stored_key(TRACKS_TABLE.name, beside)) is not None:
            with contextlib.suppress(PermanentError):  # that day itself shows what is wrong with it
                build_tracks(task.store, beside, settings=task.settings, now=task.now)
    return build_tracks(task.store, task.day, settings=task.settings, force=task.options.force, now=task.now)


def _build_rules(task: _Task) -> Any:
    from imgpipeline.events.rule_tables import ENTRIES, build_table  # noqa: PLC0415 - loads pyarrow

    return build_table(
        task.store,
        task.day,
        ENTRIES[task.name].table,
        rules=read_rules(task.settings, task.store),
        settings=task.settings,
        force=task.options.force,
        keeps_rules=task.options.keeps_rules,
        now=task.now,
    )


def _build_report(task: _Task) -> Any:
    from imgpipeline.reports.build import build_report  # noqa: PLC0415 - only if a report is built

    return build_report(task.store, task.settings, task.day, force=task.options.force, now=task.now)


def _build_comparison(task: _Task) -> Any:
    from imgpipeline.redetect.comparison import build_comparison  # noqa: PLC0415 - only if models are compared

    return build_comparison(task.settings, task.store, task.day, force=task.options.force, now=task.now)


_BUILDERS: dict[str, Callable[[_Task], Any]] = {
    TABLES: _build_tables,
    **dict.fromkeys(SUMMARIES, _build_summary),
    TRACKS: _build_tracks,
    REPORT: _build_report,
    COMPARISON: _build_comparison,
}
"""The build function of each object; those that rules make have the same one."""
