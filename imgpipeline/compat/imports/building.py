"""Building the days of an import at once, without waiting for a schedule.

Owns which days belong to an import, and the order of building. How a table is built belongs to `lake`.
"""

from collections.abc import Callable, Sequence
from datetime import date

from imgpipeline.contracts.keys import ChainId
from imgpipeline.lake.day_tables import rebuild_day
from imgpipeline.lake.summaries import SUMMARIES, build_summary
from imgpipeline.ledger import index_buckets
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Clock, Settings


def days_of(store: ObjectStore, chain: ChainId) -> list[date]:
    """Returns the days that an import has touched, by all of its calls, sorted."""
    return sorted({bucket.day for bucket in index_buckets(store) if bucket.chain == chain})


def build_days(
    settings: Settings, store: ObjectStore, days: Sequence[date], *, now: Clock, progress: Callable[[int, int], None]
) -> int:
    """Brings tables and summaries of some days up to the ledger.

    Args:
        settings: Those that summaries read.
        store: The object store.
        days: UTC days.
        now: Tells the time.
        progress: Told how many days are done.

    Returns:
        How many days had something new.

    Raises:
        LedgerError: A segment cannot be read.
        TransientError: The store does not answer, or other builds were faster time and again.
    """
    built = 0
    for done, day in enumerate(days, 1):
        skipped = [rebuild_day(store, day, now=now()).skipped]
        skipped += [build_summary(store, name, day, settings=settings, now=now()).skipped for name in SUMMARIES]
        built += not all(skipped)
        progress(done, len(days))
    return built
