"""Sizes of images in bins of equal width: `imgpipeline summary sizes --bins N`.

The bins lie between the smallest and the largest image, so the frames are read, not their stored summary.
"""

from dataclasses import dataclass
from datetime import UTC

import numpy as np

from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import Span, days_of
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class SizeBin:
    """How many images have a size within a bin."""

    from_bytes: float
    """Lower end."""
    to_bytes: float
    """Upper end; only the last bin includes it."""
    frames: int
    """Frames whose image is that large."""


def bin_sizes(store: ObjectStore, settings: Settings, span: Span, bins: int) -> list[SizeBin]:
    """Counts the frames by the size of their images, in bins as `numpy.histogram` makes them.

    Args:
        store: The object store.
        settings: Those of the query session.
        span: UTC days.
        bins: How many bins, from 1.

    Returns:
        The bins in order: one if all images are equally large, none without a frame whose size is known.

    Raises:
        LedgerError: A segment newer than a day's tables cannot be read.
        PermanentError: A stored table is not a Parquet file of this project, or memory or disk do not suffice.
        TransientError: The store does not answer.
        UsageError: Days are given, and those of the settings' time zone are not UTC days.
    """
    if not span.is_all and find_timezone(settings.timezone) is not UTC:
        raise UsageError(
            f"Bins of equal width are counted for UTC days, not for those of {settings.timezone}.",
            next_step="add --timezone UTC",
        )
    with open_lake(store, settings=settings, days=None if span.is_all else days_of(store, span)) as lake:
        rows = lake.query("SELECT size_bytes, count(*) FROM frames WHERE size_bytes IS NOT NULL GROUP BY ALL").rows
    if not rows:
        return []
    sizes, weights = zip(*rows, strict=True)
    counts, edges = np.histogram(sizes, bins if len(rows) > 1 else 1, weights=weights)
    return [SizeBin(float(edges[n]), float(edges[n + 1]), round(count)) for n, count in enumerate(counts.tolist())]
