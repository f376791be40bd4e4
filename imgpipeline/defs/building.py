"""Builds the days of a run, in the same way for every daily asset.

Each day records the newest upstream events that existed before its build, and the duration of the build; `automation`
reads both. A day that cannot be built does not stop the others, and a failed run names its failed days.

The data version of a day depends only on that day, whether a run builds one day or a range. Dagster gives all days of a
range run one version, and uses the newest upstream event of any of them as the input of each. Therefore a range run
stores an additional event for each day after Dagster's own.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.defs.automation import BUILD_SECONDS, UPSTREAM_EVENT, newest_events
from imgpipeline.defs.dagster_internals import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from imgpipeline.defs.lost_runs import note_process
from imgpipeline.defs.partitions import DAYS, days_of
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore import ForbiddenError, ObjectStore
from imgpipeline.settings import Settings

RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""For transient errors; `resources.known_failures` prevents retries of other errors."""
by_day = partial(
    dg.multi_asset, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run(), retry_policy=RETRIES
)
"""Decorates a function that builds daily assets."""
_LISTED = 10
_RECORDS_READ = 50
_UNKNOWN = "INITIAL"
"""Dagster's data version of an asset that was never materialized."""

Key = TypeVar("Key", date, str)
"""A day or a partition key."""


@dataclass(frozen=True, slots=True)
class SeenEvents:
    """The newest upstream events of one day at the start of its build."""

    by_asset: Mapping[dg.AssetKey, int]
    """Storage id of the newest materialization of each upstream asset; 0 if it has none."""

    @classmethod
    def read(
        cls, instance: dg.DagsterInstance, upstream: Iterable[dg.AssetKey], days: Iterable[date]
    ) -> "dict[date, SeenEvents]":
        """Returns the newest upstream events of each day; call it before a build reads any input."""
        by_key = {day.isoformat(): day for day in days}
        found = {asset: newest_events(instance, asset, days=by_key) for asset in upstream}
        return {day: cls({asset: events.get(key, 0) for asset, events in found.items()}) for key, day in by_key.items()}

    def to_json(self) -> dict[str, int]:
        """Returns the metadata that the build records."""
        return {key.to_user_string(): event for key, event in self.by_asset.items()}


@dataclass(frozen=True, slots=True)
class Built:
    """The stored result for one day of one asset."""

    metadata: Mapping[str, Any]
    """Metadata for the UI."""
    data_version: str
    """Changes if and only if the content changes."""


DayBuilds = Mapping[dg.AssetKey, Built]
"""The results for one day of every asset of a step."""


class BuildConfig(dg.Config):
    """Options of a build."""

    force: bool = False
    """Build days again even if they are current."""
    seal: bool = False
    """Read days whose tables were extended as a whole, and compare the result with the tables."""


@dataclass(frozen=True, slots=True)
class DayRun:
    """A run of an asset that is built alone."""

    context: dg.AssetExecutionContext
    config: BuildConfig
    """Its options."""
    settings: Settings
    """The current settings."""
    store: ObjectStore
    days: Sequence[date]
    """Its days, in order."""


def listed(items: Collection[object]) -> str:
    """Returns the first items as text, and the number of the others."""
    more = f" and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(map(str, islice(items, _LISTED))) + more


@dataclass(frozen=True, slots=True)
class Step:
    """The results of a step."""

    context: dg.AssetExecutionContext
    """The run."""
    seen: Mapping[date, SeenEvents]
    """The newest upstream events of each day at the start of the step."""
    done: Mapping[date, DayBuilds]
    """Days that were built or were current."""
    failed: Mapping[date, PermanentError]
    """Days that could not be built, with the reason."""

    def results(self) -> Iterator[dg.MaterializeResult[None]]:
        """Yields the results for Dagster.

        Raises:
            Failure: Some days could not be built; the events of the others are stored first.
        """
        if self.failed:
            self._store_events()
            raise _failure(self.failed, len(self.seen))
        days = list(self.done)
        for key in self.done[days[0]]:
            if key not in self.context.selected_asset_keys:
                continue
            if len(days) > 1:
                yield dg.MaterializeResult(asset_key=key)
            else:
                built = self.done[days[0]][key]
                version = dg.DataVersion(built.data_version)
                yield dg.MaterializeResult(asset_key=key, metadata=built.metadata, data_version=version)
        self._store_events(all_assets=len(days) > 1)

    def _store_events(self, *, all_assets: bool = True) -> None:
        """Stores an event for each day.

        Dagster stores no events for a step that fails, events with the same data version for all days of a range, and
        no events for assets that were built together with the requested ones.
        """
        versions = _versions_of(self.context.instance, (self.seen[day] for day in self.done))
        for day, builds in self.done.items():
            for key, built in builds.items():
                if all_assets or key not in self.context.selected_asset_keys:
                    self.context.log_event(_day_event(self.context, key, day, built, self.seen[day], versions))


def build_days(
    context: dg.AssetExecutionContext,
    days: Sequence[date],
    upstream: Sequence[dg.AssetKey],
    build: Callable[[date], DayBuilds],
) -> Step:
    """Builds days one after the other.

    Args:
        context: The run.
        days: The days; not empty.
        upstream: The assets whose events make a day outdated.
        build: Builds one day.

    Raises:
        ConfigurationError: A setting is invalid, so no day can be built.
        ForbiddenError: The store refuses access.
        TransientError: The store does not answer, or the machine lacks resources. The run is retried and skips the days
            that it has built.
    """
    note_process(context.instance, context.run_id)
    seen = SeenEvents.read(context.instance, upstream, days)
    done: dict[date, DayBuilds] = {}
    failed: dict[date, PermanentError] = {}
    for day in days:
        began_s = time.monotonic()
        with keep_going(context, failed, day, "built"):
            builds = build(day)
            note = {UPSTREAM_EVENT: seen[day].to_json(), BUILD_SECONDS: round(time.monotonic() - began_s, 3)}
            done[day] = {key: replace(built, metadata={**built.metadata, **note}) for key, built in builds.items()}
    return Step(context, seen, done, failed)


def day_asset(
    spec: dg.AssetSpec, upstream: Sequence[dg.AssetKey], prepare: Callable[[DayRun], Callable[[date], Built]]
) -> dg.AssetsDefinition:
    """Returns an asset that is built alone, one day after the other.

    Args:
        spec: The asset.
        upstream: The assets whose events make a day outdated.
        prepare: Called once per run; returns the function that builds one day.
    """

    @by_day(name=spec.key.to_user_string(), specs=[spec])
    def build(
        context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
    ) -> Iterator[dg.MaterializeResult[None]]:
        days = days_of(context)
        with known_failures():
            build_day = prepare(DayRun(context, config, pipeline.settings(), pipeline.store(), days))
            step = build_days(context, days, upstream, lambda day: {spec.key: build_day(day)})
        yield from step.results()

    return build


@contextlib.contextmanager
def keep_going(
    context: dg.AssetExecutionContext, failed: dict[Key, PermanentError], key: Key, what: str
) -> Iterator[None]:
    """Records a permanent error of one day, so the work on the other days continues.

    Args:
        context: The run; the error is logged there.
        failed: Gets the error.
        key: The day or partition that the body works on.
        what: What the body does, such as `built`.

    Raises:
        ConfigurationError: A setting is invalid, so the other days would fail too.
        ForbiddenError: The store refuses access, so the other days would fail too.
    """
    try:
        yield
    except (ConfigurationError, ForbiddenError):
        raise
    except PermanentError as error:
        context.log.warning(f"{key} cannot be {what}: {error}")
        failed[key] = error


def _failure(failed: Mapping[date, PermanentError], asked: int) -> dg.Failure:
    first = next(iter(failed.values()))
    return dg.Failure(
        description=f"{len(failed)} of {counted(asked, 'day')} could not be built ({listed(failed)}). "
        f"The first: {first}",
        metadata={"days": [str(day) for day in failed], "next_step": first.next_step or "see the message"},
        allow_retries=False,
    )


def _day_event(
    context: dg.AssetExecutionContext, key: dg.AssetKey, day: date, built: Built, seen: SeenEvents,
    versions: Mapping[int, str],
) -> dg.AssetMaterialization:  # fmt: skip
    """Returns the event of one day, with the versions of code, content and inputs.

    Args:
        context: The run.
        key: The asset.
        day: The day.
        built: The stored result.
        seen: The upstream events at the start of its build.
        versions: Data versions of the upstream events, by storage id.
    """
    tags = {
        CODE_VERSION_TAG: context.assets_def.code_versions_by_key[key] or context.run_id,
        DATA_VERSION_TAG: built.data_version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
    }
    inputs = {dep.asset_key for dep in context.assets_def.get_asset_spec(key).deps}
    for upstream, event in seen.by_asset.items():
        if upstream not in inputs:
            continue  # a build may follow assets that are not its dependencies in Dagster
        tags[get_input_event_pointer_tag(upstream)] = str(event) if event else "NULL"
        tags[get_input_data_version_tag(upstream)] = versions.get(event, _UNKNOWN)
    return dg.AssetMaterialization(key, partition=day.isoformat(), metadata=dict(built.metadata), tags=tags)


def _versions_of(instance: dg.DagsterInstance, seen: Iterable[SeenEvents]) -> dict[int, str]:
    """Returns the data versions of events by storage id; leaves out events without a version."""
    by_asset: dict[dg.AssetKey, set[int]] = {}
    for events in seen:
        for key, event in events.by_asset.items():
            by_asset.setdefault(key, set()).add(event)
    found: dict[int, str] = {}
    for key, ids in by_asset.items():
        ordered = sorted(ids - {0})
        for first in range(0, len(ordered), _RECORDS_READ):
            chosen = dg.AssetRecordsFilter(key, storage_ids=ordered[first : first + _RECORDS_READ])
            for record in instance.fetch_materializations(chosen, limit=_RECORDS_READ).records:
                tags = (record.asset_materialization.tags or {}) if record.asset_materialization else {}
                if DATA_VERSION_TAG in tags:
                    found[record.storage_id] = tags[DATA_VERSION_TAG]
    return found
