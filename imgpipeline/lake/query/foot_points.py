"""Where detections stand: their foot points, counted in a grid over the image."""

from dataclasses import dataclass

from imgpipeline.lake.query.wanted_frames import WantedFrames, detection_condition
from imgpipeline.lake.sessions.session import LakeSession

COLUMNS, ROWS = 48, 27
"""Cells of the grid across and down the image."""


@dataclass(frozen=True, slots=True)
class FootPoints:
    """Foot points of the detections that were asked for."""

    cells: tuple[tuple[int, int, int], ...]
    """Column from 0 (left), row from 0 (top) and count of each cell that has any."""
    detections: int
    """All detections that match."""
    without: int
    """Detections without a foot point: imported without a box or size, or outside of the image."""

    @property
    def most(self) -> int:
        """The largest count of a cell."""
        return max((count for _, _, count in self.cells), default=0)


def count_foot_points(lake: LakeSession, wanted: WantedFrames) -> FootPoints:
    """Counts foot points: the middle of the lower edge of the part of a box that lies in the image.

    Args:
        lake: The session.
        wanted: Which detections, in which frames. Images of different sizes share the grid.
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
