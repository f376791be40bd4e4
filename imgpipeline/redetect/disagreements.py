"""Finds the frames of a day on which two models disagree, with the boxes of both, the largest disagreement first."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import pyarrow as pa

from imgpipeline.lake.storage.engine import Engine, engine_errors, open_engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.pairs import LabelComparison, compare_labels, match_sides, open_pair


class Counted(StrEnum):
    """The boxes that a shown frame must have: a column of `model_comparison`, or all that differ."""

    DIFFERING = "differing"
    """Boxes that only one model found."""
    MATCHED = "matched"
    """Boxes of A that match one of B."""
    ONLY_A = "only_a"
    """Boxes of A that match none of B."""
    ONLY_B = "only_b"
    """Boxes of B that match none of A."""
    COUNT_A = "count_a"
    """All boxes of A."""
    COUNT_B = "count_b"
    """All boxes of B."""


_CONDITIONS = {
    Counted.DIFFERING: "iou IS NULL",
    Counted.MATCHED: "side = 'a' AND iou IS NOT NULL",
    Counted.ONLY_A: "side = 'a' AND iou IS NULL",
    Counted.ONLY_B: "side = 'b' AND iou IS NULL",
    Counted.COUNT_A: "side = 'a'",
    Counted.COUNT_B: "side = 'b'",
}
_BOXES = """
SELECT '{side}' AS side, found.frame_id, detection_number, found.label, confidence, x, y, width, height, iou
FROM found_{side} AS found
LEFT JOIN matched ON matched.frame_id = found.frame_id AND matched.{side} = found.detection_number
"""
_FRAMES = """
SELECT frame_id, count(*) FILTER (iou IS NULL) AS differing, min(iou) AS lowest_iou,
       count(*) FILTER ({counted}) AS counted
FROM boxes WHERE $label IS NULL OR label = $label
GROUP BY frame_id HAVING counted > 0
"""


@dataclass(frozen=True, slots=True)
class ComparedDay:
    """The comparison of two models on one day, from `compare_day`."""

    model_a: str
    """Model A, or `live`."""
    model_b: str
    """Model B, or `live`."""
    labels: tuple[LabelComparison, ...]
    """One for each label that either found."""
    boxes: pa.Table
    """All boxes of both, with the columns `side` (`a`, `b`), `frame_id`, `detection_number`, `label`, `confidence`,
    `x`, `y`, `width`, `height` in pixels, and `iou` with the matching box of the other model, or NULL."""


@dataclass(frozen=True, slots=True)
class ComparedFrame:
    """One frame that both models processed."""

    frame_id: str
    differing: int
    """Boxes that only one model found."""
    lowest_iou: float | None
    """The lowest IoU of matching boxes, 0.5 to 1; None without matching boxes."""
    boxes: tuple[dict[str, Any], ...]
    """The boxes of both: rows of `ComparedDay.boxes`."""


@dataclass(frozen=True, slots=True)
class ComparedFrames:
    """A page of frames of a compared day."""

    frames: tuple[ComparedFrame, ...]
    """The largest disagreement first: most differing boxes, then lowest IoU."""
    matching: int
    """Frames of all pages."""
    boxes: int
    """Requested boxes in the frames of all pages."""


def compare_day(store: ObjectStore, day: date, model_a: str, model_b: str, *, memory: str | None) -> ComparedDay:
    """Compares two models on a day without storing anything; arguments and errors as `open_pair`."""
    with open_pair(store, day, model_a, model_b, memory=memory) as (engine, a, b):
        match_sides(engine, a, b)
        boxes = _arrow(engine, f"{_BOXES.format(side='a')} UNION ALL {_BOXES.format(side='b')}")
        return ComparedDay(model_a, model_b, compare_labels(engine, a, b), boxes)


def find_disagreements(
    compared: ComparedDay, *, label: str | None, counted: Counted, after: int, limit: int, memory: str | None
) -> ComparedFrames:
    """Returns frames with certain boxes, the largest disagreement first.

    Args:
        compared: The day.
        label: Choose and sort frames only by boxes with this label; each frame still has all of its boxes.
        counted: The boxes that a frame must have.
        after: Number of frames to skip.
        limit: Maximum number of frames.
        memory: Memory limit of DuckDB.
    """
    chosen = _FRAMES.format(counted=_CONDITIONS[counted])
    given = {"label": label}
    with open_engine(memory=memory) as engine:
        engine.connection.register("boxes", compared.boxes)
        [(matching, boxes)] = engine.run(f"SELECT count(*), coalesce(sum(counted), 0)::BIGINT FROM ({chosen})", given)  # noqa: S608 - own names
        rows = engine.run(
            f"SELECT frame_id, differing, lowest_iou FROM ({chosen}) "  # noqa: S608 - own names
            "ORDER BY differing DESC, lowest_iou NULLS LAST, frame_id LIMIT $limit OFFSET $after",
            {**given, "limit": limit, "after": after},
        )
        found: dict[str, list[dict[str, Any]]] = {frame_id: [] for frame_id, *_ in rows}
        query = "SELECT * FROM boxes WHERE list_contains($ids, frame_id) ORDER BY side, detection_number"
        for box in _arrow(engine, query, {"ids": list(found)}).to_pylist():
            found[box["frame_id"]].append(box)
    frames = tuple(ComparedFrame(row[0], row[1], row[2], tuple(found[row[0]])) for row in rows)
    return ComparedFrames(frames, matching, boxes)


def _arrow(engine: Engine, query: str, parameters: dict[str, object] | None = None) -> pa.Table:
    with engine_errors():
        table: pa.Table = engine.connection.sql(query, params=parameters).to_arrow_table()
        return table
