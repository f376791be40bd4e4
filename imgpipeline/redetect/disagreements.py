"""Where two models disagree on a day: its frames with the boxes of both, the largest disagreement first."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import pyarrow as pa

from imgpipeline.lake.storage.engine import Engine, engine_errors, open_engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.pairs import LabelComparison, compare_labels, match_sides
from imgpipeline.redetect.sides import open_side


class Counted(StrEnum):
    """Which boxes a frame is shown for: a column of `model_comparison`, or all that differ."""

    DIFFERING = "differing"
    """Boxes that only one of both models found."""
    MATCHED = "matched"
    """Boxes of A with one of B."""
    ONLY_A = "only_a"
    """Boxes of A without one of B."""
    ONLY_B = "only_b"
    """Boxes of B without one of A."""
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
    """Two models on one day. Made by `compare_day`."""

    model_a: str
    """One model, or `live`."""
    model_b: str
    """The other one."""
    labels: tuple[LabelComparison, ...]
    """One for each label that either has found."""
    boxes: pa.Table
    """All boxes of both, with the columns `side` (`a`, `b`), `frame_id`, `detection_number`, `label`, `confidence`,
    `x`, `y`, `width`, `height` in pixels, and `iou` with the other model's box that it belongs to, or NULL."""


@dataclass(frozen=True, slots=True)
class ComparedFrame:
    """One frame that both models have looked at."""

    frame_id: str
    """The frame."""
    differing: int
    """Boxes that only one of both models found."""
    lowest_iou: float | None
    """The lowest IoU of boxes that belong together, 0.5 to 1; None without any."""
    boxes: tuple[dict[str, Any], ...]
    """The boxes of both: rows of `ComparedDay.boxes`."""


@dataclass(frozen=True, slots=True)
class ComparedFrames:
    """Some frames of a compared day."""

    frames: tuple[ComparedFrame, ...]
    """The largest disagreement first: most differing boxes, then lowest IoU."""
    matching: int
    """Frames of all pages."""
    boxes: int
    """Boxes that were asked for, in all of these frames."""


def compare_day(store: ObjectStore, day: date, model_a: str, model_b: str, *, memory: str | None) -> ComparedDay:
    """Compares two models on a day; nothing is stored.

    Args:
        store: The object store.
        day: UTC day.
        model_a: `live`, or a choice such as `demo@0.3`.
        model_b: The other one.
        memory: What DuckDB may take (the setting `duckdb_memory`).

    Raises:
        PermanentError: One of them has nothing on that day.
        TransientError: The store does not answer, or a build of the day takes long.
    """
    with open_engine(memory=memory) as engine:
        a, b = (open_side(store, engine, name, day, f"side{n}") for n, name in enumerate((model_a, model_b)))
        match_sides(engine, a, b)
        boxes = _arrow(engine, f"{_BOXES.format(side='a')} UNION ALL {_BOXES.format(side='b')}")
        return ComparedDay(model_a, model_b, compare_labels(engine, a, b), boxes)


def find_disagreements(
    compared: ComparedDay, *, label: str | None, counted: Counted, after: int, limit: int, memory: str | None
) -> ComparedFrames:
    """Returns frames with such boxes, the largest disagreement first.

    Args:
        compared: The day.
        label: Only boxes of this label decide about order and number; each frame has all of its boxes.
        counted: Which boxes a frame needs.
        after: Frames to leave out.
        limit: At most this many frames.
        memory: What DuckDB may take.
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
