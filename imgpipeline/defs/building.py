"""Builds the days that a run was asked for, in the same way for every daily table.

Each day records which upstream event it has seen and how long it took (`automation` needs both). A day that cannot be
built does not prevent the others, and a failed run names its failed days.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

import dagster as dg

from imgpipeline.contracts.text import counted
from imgpipeline.defs.automation import BUILD_SECONDS, UPSTREAM_EVENT, seen_events
from imgpipeline.defs.lost_runs import note_process
from imgpipeline.defs.versions import Built, SeenEvents, day_event, versions_of
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore import ForbiddenError

RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""For errors that may be temporary; `failures` decides for each error."""
_SHOWN_DAYS = 10

Key = TypeVar("Key", date, str)
"""A day, or the name of a partition."""
DayBuilds = Mapping[dg.AssetKey, Built]
"""One day of every asset that a step builds."""


class BuildConfig(dg.Config):
    """How days are built."""

    force: bool = False
    """Build a day again although its manifest says that nothing is new."""
    seal: bool = False
    """Read a day as a whole where newer segments were added to its tables, and compare."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step has done for the days that it was asked for."""

    context: dg.AssetExecutionContext
    """The run."""
    seen: Mapping[date, SeenEvents]
    """The newest upstream events of each day when the step began."""
    done: Mapping[date, DayBuilds]
    """What was built, or found to be up to date."""
    failed: Mapping[date, PermanentError]
    """Days that cannot be built, with the reason."""

    def results(self) -> Iterator[dg.MaterializeResult[None]]:
        """Yields what Dagster stores of the days that were built.

        Raises:
            Failure: Some days could not be built; the others are stored before it is raised.
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
        """Stores an event for each day, in place of Dagster's own.

        Dagster stores none for a step that fails, the same one for each of several days (see `versions`), and none for
        assets that were built together with the requested ones without being requested.
        """
        versions = versions_of(self.context.instance, (self.seen[day] for day in self.done))
        for day, builds in self.done.items():
            for key, built in builds.items():
                if all_assets or key not in self.context.selected_asset_keys:
                    self.context.log_event(day_event(self.context, key, day, built, self.seen[day], versions))


def build_days(
    context: dg.AssetExecutionContext,
    days: Sequence[date],
    upstream: Sequence[dg.AssetKey],
    build: Callable[[date], DayBuilds],
) -> Step:
    """Builds days in sequence.

    Args:
        context: The run.
        days: What to build; not empty.
        upstream: The assets whose news make a day outdated.
        build: Builds one day.

    Raises:
        ConfigurationError: A setting is wrong, so that no day can be built.
        ForbiddenError: The store refuses access.
        TransientError: Store or machine are in trouble; the run is tried again, and skips what it has built.
    """
    note_process(context.instance, context.run_id)
    seen = seen_events(context, upstream, days)
    done: dict[date, DayBuilds] = {}
    failed: dict[date, PermanentError] = {}
    for day in days:
        began_s = time.monotonic()
        with others_go_on(context, failed, day, "built"):
            builds = build(day)
            note = {UPSTREAM_EVENT: seen[day].to_json(), BUILD_SECONDS: round(time.monotonic() - began_s, 3)}
            done[day] = {key: replace(built, metadata={**built.metadata, **note}) for key, built in builds.items()}
    return Step(context, seen, done, failed)


@contextlib.contextmanager
def others_go_on(
    context: dg.AssetExecutionContext, failed: dict[Key, PermanentError], key: Key, what: str
) -> Iterator[None]:
    """Keeps what is wrong with one day from ending the work on the others.

    Args:
        context: The run, whose log says it.
        failed: Where the error is kept, for the run's end.
        key: The day or partition that the body works on.
        what: What could not be done with it, such as `built`.

    Raises:
        ConfigurationError: A setting is wrong: the others would fail as well.
        ForbiddenError: The store refuses access: as above.
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
    names = ", ".join(str(day) for day in list(failed)[:_SHOWN_DAYS])
    more = f" and {len(failed) - _SHOWN_DAYS} more" if len(failed) > _SHOWN_DAYS else ""
    return dg.Failure(
        description=f"{len(failed)} of {counted(asked, 'day')} could not be built ({names}{more}). The first: {first}",
        metadata={"days": [str(day) for day in failed], "next_step": first.next_step or "see the message"},
        allow_retries=False,
    )
