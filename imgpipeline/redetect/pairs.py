"""Compares one pair of models on one day: agreement by label, and frames worth looking at.

Only frames that both models have processed are counted.
"""

from dataclasses import dataclass
from datetime import date

from imgpipeline.contracts.detection import Detection
from imgpipeline.lake.storage.engine import Engine, open_engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.matching import match_found, read_sql
from imgpipeline.redetect.sides import Side, open_side

_MODELS = """
SELECT list_sort(coalesce(list(DISTINCT model) FILTER (model <> ''), [])) FROM (
    SELECT concat_ws(' ', nullif(model_used, ''), nullif(model_sha256[:8], ''), computed_in,
                     '>' || confidence_threshold) AS model
    FROM {view}_frames SEMI JOIN compared USING (frame_id))
"""
COMPARED = """
CREATE OR REPLACE TABLE compared AS
SELECT frame_id, coalesce(source_image_path, '') AS source_image_path
FROM {a}_frames SEMI JOIN {b}_frames USING (frame_id)
"""
"""Creates the table of the frames that both sides have looked at."""


@dataclass(frozen=True, slots=True)
class LabelComparison:
    """One label of one pair of models on one day: a row of `model_comparison`."""

    model_a: str
    """One model, or `live`."""
    model_b: str
    """The other one."""
    label: str
    """Class name."""
    frames: int
    """Frames that both have looked at."""
    count_a: int
    """Detections of A in them."""
    count_b: int
    """Detections of B in them."""
    matched: int
    """Pairs that belong together."""
    only_a: int
    """Detections of A alone."""
    only_b: int
    """Detections of B alone."""
    agreement: float
    """`matched / (matched + only_a + only_b)`."""
    mean_iou: float | None
    """Mean IoU of the pairs; None if there is none."""
    models_a: tuple[str, ...]
    """What A was."""
    models_b: tuple[str, ...]
    """What B was."""
    examples: tuple[str, ...] = ()
    """Keys of pictures in which only one of them found this label."""


@dataclass(frozen=True, slots=True)
class Example:
    """A frame worth looking at."""

    frame_id: str
    """The frame."""
    path: str
    """Its image."""
    labels: tuple[str, ...]
    """What only one of both models found in it."""
    found_a: tuple[Detection, ...]
    """What A found in it."""
    found_b: tuple[Detection, ...]
    """What B found in it."""


@dataclass(frozen=True, slots=True)
class PairComparison:
    """One pair of models on one day."""

    model_a: str
    """One model, or `live`."""
    model_b: str
    """The other one."""
    labels: tuple[LabelComparison, ...]
    """One for each label that either has found."""
    examples: tuple[Example, ...]
    """Frames worth looking at, the most telling first; more than are shown, since pictures may be gone."""


def match_sides(engine: Engine, a: Side, b: Side) -> None:
    """Creates the tables `compared`, `found_a`, `found_b` and `matched` of two opened sides."""
    engine.run(COMPARED.format(a=a.view, b=b.view))
    for end, side in (("a", a), ("b", b)):
        engine.run(
            f"CREATE OR REPLACE TABLE found_{end} AS SELECT frame_id, detection_number, label, class_id, confidence, "  # noqa: S608 - own names
            f"x, y, width, height FROM {side.view}_found SEMI JOIN compared USING (frame_id)"
        )
    match_found(engine)


def compare_labels(engine: Engine, a: Side, b: Side) -> tuple[LabelComparison, ...]:
    """Returns the agreement of two matched sides by label."""
    frames = engine.value("SELECT count(*) FROM compared")
    models = [tuple(engine.value(_MODELS.format(view=side.view))) for side in (a, b)]
    return tuple(
        LabelComparison(a.name, b.name, row[0], frames, *row[1:], *models)
        for row in engine.run(read_sql("model_comparison"))
    )


def compare_pair(engine: Engine, a: Side, b: Side) -> PairComparison:
    """Compares two opened sides."""
    match_sides(engine, a, b)
    labels = compare_labels(engine, a, b)
    examples = tuple(
        Example(frame_id, path, tuple(differing), _found(engine, "a", frame_id), _found(engine, "b", frame_id))
        for frame_id, path, differing in engine.run(read_sql("example_frames"))
    )
    return PairComparison(a.name, b.name, labels, examples)


def compare_models(
    store: ObjectStore, day: date, model_a: str, model_b: str, *, memory: str | None = None
) -> PairComparison:
    """Compares two models on a day; nothing is put.

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
        sides = [open_side(store, engine, name, day, f"side{n}") for n, name in enumerate((model_a, model_b))]
        return compare_pair(engine, *sides)


def _found(engine: Engine, end: str, frame_id: str) -> tuple[Detection, ...]:
    rows = engine.run(
        f"SELECT label, class_id, confidence, x, y, width, height FROM found_{end} "  # noqa: S608 - own names
        "WHERE frame_id = ? AND x IS NOT NULL ORDER BY detection_number",
        [frame_id],
    )
    return tuple(Detection(label, number, sure, tuple(box)) for label, number, sure, *box in rows)
