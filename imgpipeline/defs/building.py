"""Building the days that a run was asked for.

Owns what is the same for every daily table: each day notes what it had seen and how long it took (`automation` decides
by that), one day that cannot be built keeps no other from it, and a run that fails names its days. What a build is
belongs to the asset's own module.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from imgpipeline.defs.automation import BUILD_SECONDS, UPSTREAM_EVENT, seen_events
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore import ForbiddenError

RETRIES = dg.RetryPolicy(max_retries=2, delay=5, backoff=dg.Backoff.EXPONENTIAL)
"""For what may pass by itself; `failures` says of each error whether that is so."""
_SHOWN_DAYS = 10

Said = Mapping[dg.AssetKey, Mapping[str, Any]]
"""Metadata of one day's build, by asset."""


class BuildConfig(dg.Config):
    """How days are built."""

    force: bool = False
    """Build a day again although its manifest says that nothing is new."""


def build_days(
    context: dg.AssetExecutionContext, days: Sequence[date], upstream: dg.AssetKey, build: Callable[[date], Said]
) -> None:
    """Builds days one after the other and gives each its metadata.

    Args:
        context: The run.
        days: What to build; not empty.
        upstream: The asset whose news make a day outdated.
        build: Builds one day.

    Raises:
        Failure: Some days cannot be built; the others are built, and materialized.
        ConfigurationError: A setting is wrong, so that no day can be built.
        ForbiddenError: The store refuses access.
        TransientError: Store or machine are in trouble; the run is tried again, and skips what it has built.
    """
    seen = seen_events(context, upstream, days)
    done: dict[date, Said] = {}
    failed: dict[date, PermanentError] = {}
    for day in days:
        began_s = time.monotonic()
        try:
            said = build(day)
        except (ConfigurationError, ForbiddenError):
            raise
        except PermanentError as error:
            context.log.warning(f"{day} cannot be built: {error}")
            failed[day] = error
            continue
        own = {UPSTREAM_EVENT: seen[day], BUILD_SECONDS: round(time.monotonic() - began_s, 3)}
        done[day] = {key: {**metadata, **own} for key, metadata in said.items()}
    if failed:
        _materialize(context, done)
        raise _failure(failed, len(days))
    for day, said in done.items():
        for key, metadata in said.items():
            context.add_asset_metadata(metadata, asset_key=key, partition_key=day.isoformat())


def _materialize(context: dg.AssetExecutionContext, done: Mapping[date, Said]) -> None:
    """Stores the days that were built: a failing step tells of none by itself."""
    for day, said in done.items():
        for key, metadata in said.items():
            context.log_event(dg.AssetMaterialization(key, partition=day.isoformat(), metadata=dict(metadata)))


def _failure(failed: Mapping[date, PermanentError], asked: int) -> dg.Failure:
    first = next(iter(failed.values()))
    names = ", ".join(str(day) for day in list(failed)[:_SHOWN_DAYS])
    more = f" and {len(failed) - _SHOWN_DAYS} more" if len(failed) > _SHOWN_DAYS else ""
    return dg.Failure(
        description=f"{len(failed)} of {asked} days could not be built ({names}{more}). The first: {first}",
        metadata={"days": [str(day) for day in failed], "next_step": first.next_step or "see the message"},
        allow_retries=False,
    )
