"""Builds the objects of a day, each after those that it reads.

An object that cannot be built stops only those that need it. Dagster and the command `imgpipeline build` both build
through `build_day`.
"""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from imgpipeline.accuracy.plans import read_plans
from imgpipeline.contracts.times import Clock
from imgpipeline.daily.objects import COMPARISON, MEASURED, OBJECTS, REPORT, TABLES, TRACKS
from imgpipeline.errors import ImgpipelineError, PermanentError, TransientError
from imgpipeline.events.accuracy import DayAccuracy
from imgpipeline.events.configuration import Rules, read_rules
from imgpipeline.events.rule_tables import ENTRIES
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.derived import Built, Derived, build
from imgpipeline.lake.days.summaries import SUMMARIES, DaySummary
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.objectstore import ForbiddenError, ObjectStore
from imgpipeline.redetect.comparison import DayComparison
from imgpipeline.redetect.pairs import sides_of
from imgpipeline.reports.build import DailyReport
from imgpipeline.settings import Settings
from imgpipeline.tracking.day_tracks import DayTracks


@dataclass(frozen=True, slots=True)
class ObjectBuild:
    """The outcome of building one object of a day."""

    name: str
    """As in `OBJECTS`."""
    day: date
    result: Any = None
    """Its `Built`; None if it was not built."""
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
        day: UTC day.
        names: Keys of `OBJECTS`.

    Yields:
        The outcome of each object that was tried. An object that needs one that failed is not tried. The outcome of a
        comparison of models, on a day that no model has re-processed, has neither result nor error; nor has that of
        `accuracy` on a day without a plan.

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
            built = ObjectBuild(name, day, _build(store, settings, day, name, options, clock()))
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


def derived_of(
    store: ObjectStore,
    settings: Settings,
    day: date,
    name: str,
    *,
    rules: Rules | None = None,
    keeps_rules: bool = True,
    now: datetime,
) -> Derived[Any]:
    """Returns any object of `OBJECTS` but the day tables, to compare or to build it.

    Args:
        day: UTC day.
        name: Key of `OBJECTS`.
        rules: The current rules; default: they are read.
        keeps_rules: A past day keeps the rules of its stored table.
        now: The current time, UTC.
    """
    if name in SUMMARIES:
        return DaySummary(store, SUMMARIES[name], day, settings, now)
    if name == TRACKS:
        return DayTracks(store, day, settings, now)
    if name == REPORT:
        return DailyReport(store, settings, day, now, None)
    if name == COMPARISON:
        return DayComparison(settings, store, day, now)
    if name == MEASURED:
        return DayAccuracy(store, settings, Rules(), day, now)
    return ENTRIES[name](store, settings, rules or read_rules(settings, store), day, now, keeps_rules)


def _build(
    store: ObjectStore, settings: Settings, day: date, name: str, options: BuildOptions, now: datetime
) -> Built[Any] | None:
    if name == TABLES:
        limits = BuildLimits.of(settings)
        return rebuild_day(store, day, force=options.force, seal=options.seal, now=now, limits=limits)
    if name == COMPARISON and len(sides_of(store, day)) == 1:
        return None
    if name == MEASURED and not read_plans(store, day):
        return None
    if name == TRACKS:
        _build_neighbours(store, settings, day, now)
    entry = derived_of(store, settings, day, name, keeps_rules=options.keeps_rules, now=now)
    return build(entry, force=options.force)


def _build_neighbours(store: ObjectStore, settings: Settings, day: date, now: datetime) -> None:
    """Builds the tracks of the days beside a day: their first and last slices read rows of this day."""
    for beside in (day - timedelta(days=1), day + timedelta(days=1)):
        if store.head(stored_key(TRACKS, beside)) is not None:
            with contextlib.suppress(PermanentError):  # that day itself shows what is wrong with it
                build(derived_of(store, settings, beside, TRACKS, now=now))
