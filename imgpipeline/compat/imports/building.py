"""Builds the tables and summaries of an import's days at once, without waiting for a schedule."""

from collections.abc import Callable, Sequence
from datetime import date

from imgpipeline.contracts.times import Clock
from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.build.summaries import SUMMARIES, build_summary
from imgpipeline.lake.storage.engine import BuildLimits
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


def build_days(
    settings: Settings, store: ObjectStore, days: Sequence[date], *, now: Clock, progress: Callable[[int, int], None]
) -> int:
    """Builds the tables and summaries of some days from the ledger.

    Args:
        settings: Those that summaries read.
        store: The object store.
        days: UTC days.
        now: Tells the time.
        progress: Called with the number of finished days and of all days.

    Returns:
        The number of days that had something new.

    Raises:
        LedgerError: A segment cannot be read.
        TransientError: The store does not answer, or a build lost the write race repeatedly.
    """
    built = 0
    for done, day in enumerate(days, 1):
        skipped = [rebuild_day(store, day, now=now(), limits=BuildLimits.of(settings)).skipped]
        skipped += [build_summary(store, name, day, settings=settings, now=now()).skipped for name in SUMMARIES]
        built += not all(skipped)
        progress(done, len(days))
    return built
