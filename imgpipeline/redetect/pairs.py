"""Compares a pair of models on one day: matches their boxes, and reports their agreement by label and example frames.

Only frames that both models processed count. `overlapping.sql` finds the boxes that overlap; where a box has several
candidates, `vision.agreement` chooses.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib import resources

from imgpipeline.contracts.detection import Detection
from imgpipeline.lake.storage.engine import Engine, engine_errors, open_engine
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.sides import Side, open_side
from imgpipeline.vision.agreement import Overlap, choose_pairs

ROWS_AT_ONCE = 10_000
"""Number of matched pairs that are in memory at a time."""
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
"""Creates the table of the frames that both sides processed."""


@dataclass(frozen=True, slots=True)
class LabelComparison:
    """One label of one pair of models on one day: a row of `model_comparison`."""

    model_a: str
    """Model A, or `live`."""
    model_b: str
    """Model B, or `live`."""
    label: str
    """Class name."""
    frames: int
    """Frames that both processed."""
    count_a: int
    """Detections of A in them."""
    count_b: int
    """Detections of B in them."""
    matched: int
    """Matching pairs."""
    only_a: int
    """Detections of A without a match."""
    only_b: int
    """Detections of B without a match."""
    agreement: float
    """`matched / (matched + only_a + only_b)`."""
    mean_iou: float | None
    """Mean IoU of the pairs; None without pairs."""
    models_a: tuple[str, ...]
    """Name, hash, precision and threshold of each model that made the results of A."""
    models_b: tuple[str, ...]
    """The same for B."""
    examples: tuple[str, ...] = ()
    """Keys of pictures in which only one of them found this label."""


@dataclass(frozen=True, slots=True)
class Example:
    """A frame that shows how two models differ."""

    frame_id: str
    path: str
    """Its image."""
    labels: tuple[str, ...]
    """Labels that only one of the models found in it."""
    found_a: tuple[Detection, ...]
    """Detections of A in it."""
    found_b: tuple[Detection, ...]
    """Detections of B in it."""


@dataclass(frozen=True, slots=True)
class PairComparison:
    """The comparison of a pair of models on one day."""

    model_a: str
    """Model A, or `live`."""
    model_b: str
    """Model B, or `live`."""
    labels: tuple[LabelComparison, ...]
    """One for each label that either found."""
    examples: tuple[Example, ...]
    """The largest differences first; more than are shown, because pictures may no longer exist."""


def match_sides(engine: Engine, a: Side, b: Side) -> None:
    """Creates the tables `compared`, `found_a`, `found_b` and `matched` of two open sides."""
    engine.run(COMPARED.format(a=a.view, b=b.view))
    for end, side in (("a", a), ("b", b)):
        engine.run(
            f"CREATE OR REPLACE TABLE found_{end} AS SELECT frame_id, detection_number, label, class_id, confidence, "  # noqa: S608 - own names
            f"x, y, width, height FROM {side.view}_found SEMI JOIN compared USING (frame_id)"
        )
    match_found(engine)


def compare_labels(engine: Engine, a: Side, b: Side) -> tuple[LabelComparison, ...]:
    """Returns the agreement of two sides by label, after `match_sides`."""
    frames = engine.value("SELECT count(*) FROM compared")
    models = [tuple(engine.value(_MODELS.format(view=side.view))) for side in (a, b)]
    return tuple(
        LabelComparison(a.name, b.name, row[0], frames, *row[1:], *models)
        for row in engine.run(read_sql("model_comparison"))
    )


def compare_pair(engine: Engine, a: Side, b: Side) -> PairComparison:
    """Compares two open sides."""
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
    """Compares two models on a day without storing anything; arguments and errors as `open_pair`."""
    with open_pair(store, day, model_a, model_b, memory=memory) as (engine, a, b):
        return compare_pair(engine, a, b)


@contextlib.contextmanager
def open_pair(
    store: ObjectStore, day: date, model_a: str, model_b: str, *, memory: str | None
) -> Iterator[tuple[Engine, Side, Side]]:
    """Opens the results of two models on a day in DuckDB.

    Args:
        store: The object store.
        day: UTC day.
        model_a: `live`, or a choice such as `demo@0.3`.
        model_b: The other one.
        memory: Memory limit of DuckDB (the setting `duckdb_memory`).

    Raises:
        PermanentError: One of them has no results on that day.
        TransientError: The store does not answer, or a build of the day takes too long.
    """
    with open_engine(memory=memory) as engine:
        a, b = (open_side(store, engine, name, day, f"side{n}") for n, name in enumerate((model_a, model_b)))
        yield engine, a, b


def _found(engine: Engine, end: str, frame_id: str) -> tuple[Detection, ...]:
    rows = engine.run(
        f"SELECT label, class_id, confidence, x, y, width, height FROM found_{end} "  # noqa: S608 - own names
        "WHERE frame_id = ? AND x IS NOT NULL ORDER BY detection_number",
        [frame_id],
    )
    return tuple(Detection(label, number, sure, tuple(box)) for label, number, sure, *box in rows)


def read_sql(name: str) -> str:
    """Returns a query of this package, without a final semicolon."""
    return resources.files("imgpipeline.redetect").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8").strip()


def match_found(engine: Engine) -> None:
    """Creates the table `matched` from `found_a` and `found_b`.

    Most boxes overlap at most one other box. These pairs need no choice and stay in DuckDB.
    """
    engine.run(f"CREATE OR REPLACE TABLE overlapping AS {read_sql('overlapping')}")
    engine.run(
        "CREATE OR REPLACE TABLE matched AS "
        "SELECT frame_id, label, a, b, iou FROM overlapping WHERE of_a = 1 AND of_b = 1"
    )
    rows: list[Overlap] = []
    for pair in choose_pairs(_contested(engine)):
        rows.append(pair)
        if len(rows) == ROWS_AT_ONCE:
            _insert(engine, rows)
            rows.clear()
    _insert(engine, rows)
    engine.run("DROP TABLE overlapping")


def _contested(engine: Engine) -> Iterator[Overlap]:
    """Yields the overlaps of boxes with several candidates, without loading all of them."""
    with engine_errors(), contextlib.closing(engine.connection.cursor()) as cursor:
        cursor.execute(
            "SELECT frame_id, label, a, b, iou FROM overlapping WHERE of_a > 1 OR of_b > 1 "
            "ORDER BY frame_id, iou DESC, a, b"
        )
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield from rows


def _insert(engine: Engine, rows: list[Overlap]) -> None:
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        engine.run("INSERT INTO matched SELECT unnest(?), unnest(?), unnest(?), unnest(?), unnest(?)", columns)
