"""Histograms that are not stored: image sizes in bins of equal width, and foot points in a grid over the image."""

from dataclasses import dataclass
from datetime import UTC

import numpy as np

from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import Span, days_of
from imgpipeline.lake.query.wanted_frames import WantedFrames, detection_condition
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class SizeBin:
    """The number of images with a size in one bin."""

    from_bytes: float
    """Lower bound."""
    to_bytes: float
    """Upper bound; only the last bin includes it."""
    frames: int


def bin_sizes(store: ObjectStore, settings: Settings, span: Span, bins: int) -> list[SizeBin]:
    """Counts the frames by image size, in equal bins between the smallest and the largest image (`numpy.histogram`).

    The bins depend on all sizes, so this reads the frames and not their stored summary.

    Args:
        settings: As for a query session.
        span: UTC days.
        bins: Number of bins, from 1.

    Returns:
        The bins in order: one if all images have the same size, none if no size is known.

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


COLUMNS, ROWS = 48, 27
"""Cells of the grid across and down the image."""


@dataclass(frozen=True, slots=True)
class FootPoints:
    """Foot points of the wanted detections, counted in a grid."""

    cells: tuple[tuple[int, int, int], ...]
    """Column from 0 (left), row from 0 (top) and count of each cell that has any."""
    detections: int
    without: int
    """Detections without a foot point: imported without box or size, or outside the image."""

    @property
    def most(self) -> int:
        """The largest count of a cell."""
        return max((count for _, _, count in self.cells), default=0)


def count_foot_points(lake: LakeSession, wanted: WantedFrames) -> FootPoints:
    """Counts foot points. A foot point is the middle of the lower edge of the visible part of a box.

    Args:
        wanted: The filter. Images of different sizes share the grid.
    """
    rows = lake.query(
        f"""
        WITH placed AS (
            SELECT (greatest(x, 0) + least(x + width, image_width)) / 2 / image_width AS across,
                   least(y + height, image_height) / image_height AS down,
                   x + width >= 0 AND x <= image_width AND y + height >= 0 AND y <= image_height AS visible
            FROM detections WHERE {detection_condition(wanted)}
        )
        SELECT CASE WHEN visible THEN least(floor(across * {COLUMNS}), {COLUMNS - 1})::INTEGER END AS col,
               CASE WHEN visible THEN least(floor(down * {ROWS}), {ROWS - 1})::INTEGER END AS row, count(*)
        FROM placed GROUP BY 1, 2 ORDER BY 2, 1
        """  # noqa: S608 - own SQL, texts quoted
    ).rows
    cells = tuple((col, row, count) for col, row, count in rows if col is not None and row is not None)
    total = sum(count for _, _, count in rows)
    return FootPoints(cells, total, total - sum(count for _, _, count in cells))
