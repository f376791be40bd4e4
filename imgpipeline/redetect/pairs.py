"""Compares the results of two models on one day: opens both sides, matches their boxes, and finds where they differ.

Only frames that both models processed count. `overlapping.sql` finds the boxes that overlap; where a box has several
candidates, `vision.agreement` chooses.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import REDETECTIONS, day_table_key, parse_day, parse_model_folder, redetection_key
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.summary_inputs import UnsettledError, when_settled
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON
from imgpipeline.lake.storage.engine import Engine, all_rows, disk_errors, engine_errors, open_engine, quoted, read_sql
from imgpipeline.lake.storage.manifest import (
    BaseManifest,
    Manifest,
    have_equal_ends,
    parse_manifest,
    read_object,
)
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.redetect.manifest import RedetectionManifest
from imgpipeline.settings import LIVE
from imgpipeline.vision.agreement import Overlap, choose_pairs

if TYPE_CHECKING:
    import pyarrow as pa

_TABLES = ("frames", "detections")
PACKAGE = "imgpipeline.redetect"
"""Its folder `sql` has the queries."""
LABEL_COLUMNS = [name for name in MODEL_COMPARISON.names if name not in ("day", "examples")]
"""The columns of a `LabelRow`."""


@dataclass(frozen=True, slots=True)
class Side:
    """One model's result of a day, as the views `{view}_frames` and `{view}_found`."""

    name: str
    view: str
    """Prefix of the names of the views."""
    versions: str
    """Versions of its two objects."""


def sides_of(store: ObjectStore, day: date) -> list[str]:
    """Returns the names of the sides that can be compared on a day: `live`, then the models with results, sorted."""
    folders = store.list_folders(REDETECTIONS)
    models = sorted(model for model in map(parse_model_folder, folders) if model)
    return [LIVE, *(model for model in models if store.head(redetection_key(model, day, "detections")))]


def days_with_redetections(store: ObjectStore) -> dict[date, str]:
    """Returns the days with results of models, each with their e-tags; one listing for each model."""
    found: dict[date, str] = {}
    for folder in store.list_folders(REDETECTIONS):
        model = parse_model_folder(folder)
        for info in store.list_objects(f"{REDETECTIONS}/{folder}") if model else ():
            day = parse_day(info.key)
            if day and info.key in {redetection_key(model or "", day, table) for table in _TABLES}:
                found[day] = f"{found.get(day, '')} {info.e_tag}"
    return found


def versions_of(store: ObjectStore, day: date, names: Sequence[str]) -> dict[str, str]:
    """Returns the versions of both objects of each side; the version of a missing object is empty."""
    found: dict[str, str] = {}
    for name in names:
        stored = [read_object(store, _key(name, day, table), BaseManifest) for table in _TABLES]
        found[name] = " ".join(each.manifest.version if each else "" for each in stored)
    return found


def open_side(store: ObjectStore, engine: Engine, name: str, day: date, view: str) -> Side:
    """Opens one side.

    Args:
        engine: DuckDB with a folder.
        name: `live`, or a choice.
        day: UTC day.
        view: Prefix of the names of the views: `{view}_frames` has the processed frames, `{view}_found` their
            detections.

    Returns:
        The side with the opened versions.

    Raises:
        PermanentError: It does not exist, is not a Parquet file of this project.
        TransientError: Its two objects are from different builds for longer than a build takes.
    """
    paths = {table: engine.folder / f"{view}-{table}.parquet" for table in _TABLES}

    def fetch() -> list[BaseManifest]:
        kind = Manifest if name == LIVE else RedetectionManifest
        for table, path in paths.items():
            _fetch(store, engine, name, day, table, path)
        found = [parse_manifest(path, _key(name, day, table), kind) for table, path in paths.items()]
        if found[0] == found[1] if name != LIVE else have_equal_ends(found):
            return found
        raise UnsettledError(
            f"{name} of {day} cannot be compared yet: its frames and detections are from different builds; one is "
            "in progress or was killed.",
            next_step=_command(name, day),
        )

    frames, detections = when_settled(fetch)
    processed, precision = "outcome = 'processed'", "NULL"
    if isinstance(frames, RedetectionManifest):
        precision = quoted(frames.precision) if frames.precision else "NULL"
    else:
        processed, precision = "status = 'processed'", 'detectors[1]."precision"'
    rows = f"SELECT *, {precision} AS computed_in FROM ({all_rows(paths['frames'])})"  # noqa: S608 - own names
    engine.run(f"CREATE VIEW {view}_frames AS {rows} WHERE {processed}")
    engine.run(f"CREATE VIEW {view}_found AS {all_rows(paths['detections'])}")
    return Side(name, view, f"{frames.version} {detections.version}")


def _key(name: str, day: date, table: str) -> str:
    return day_table_key(table, day) if name == LIVE else redetection_key(name, day, table)


def _fetch(store: ObjectStore, engine: Engine, name: str, day: date, table: str, path: Path) -> None:
    try:
        with disk_errors(engine.folder):
            fetch_table(store, _key(name, day, table), path)
    except ObjectMissingError:
        raise PermanentError(
            f"There is no {table} of {name} on {day} to compare.", next_step=_command(name, day)
        ) from None


def _command(name: str, day: date) -> str:
    if name == LIVE:
        return f"dagster asset materialize -m imgpipeline.definitions --select frames,detections --partition {day}"
    return f"imgpipeline redetect --model {name} --day {day}"


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


LabelRow = Mapping[str, Any]
"""One label of one pair of models on one day: a row of `model_comparison` without the day and the examples."""


@dataclass(frozen=True, slots=True)
class Example:
    """A frame that shows how two models differ."""

    frame_id: str
    path: str
    labels: tuple[str, ...]
    """Labels that only one of the models found in it."""
    found_a: tuple[Detection, ...]
    found_b: tuple[Detection, ...]


@dataclass(frozen=True, slots=True)
class PairComparison:
    """The comparison of a pair of models on one day."""

    model_a: str
    model_b: str
    labels: Sequence[LabelRow]
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


def compare_labels(engine: Engine, a: Side, b: Side) -> list[LabelRow]:
    """Returns the agreement of two sides by label, after `match_sides`."""
    models = {f"models_{end}": engine.value(_MODELS.format(view=side.view)) for end, side in (("a", a), ("b", b))}
    counts = read_sql(PACKAGE, "model_comparison")
    rows = _arrow(engine, f"SELECT *, (SELECT count(*) FROM compared) AS frames FROM ({counts})")  # noqa: S608 - own SQL
    named = [{"model_a": a.name, "model_b": b.name, **row, **models} for row in rows.to_pylist()]
    return [{name: row[name] for name in LABEL_COLUMNS} for row in named]


def compare_pair(engine: Engine, a: Side, b: Side) -> PairComparison:
    """Compares two open sides."""
    match_sides(engine, a, b)
    labels = compare_labels(engine, a, b)
    examples = tuple(
        Example(frame_id, path, tuple(differing), _found(engine, "a", frame_id), _found(engine, "b", frame_id))
        for frame_id, path, differing in engine.run(read_sql(PACKAGE, "example_frames"))
    )
    return PairComparison(a.name, b.name, labels, examples)


@contextlib.contextmanager
def open_pair(
    store: ObjectStore, day: date, model_a: str, model_b: str, *, memory: str | None
) -> Iterator[tuple[Engine, Side, Side]]:
    """Opens the results of two models on a day in DuckDB.

    Args:
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


def match_found(engine: Engine) -> None:
    """Creates the table `matched` from `found_a` and `found_b`.

    Most boxes overlap at most one other box. These pairs need no choice and stay in DuckDB.
    """
    engine.run(f"CREATE OR REPLACE TABLE overlapping AS {read_sql(PACKAGE, 'overlapping')}")
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


class Counted(StrEnum):
    """The boxes that a shown frame must have: a column of `model_comparison`, or all that differ."""

    DIFFERING = "differing"
    MATCHED = "matched"
    ONLY_A = "only_a"
    ONLY_B = "only_b"
    COUNT_A = "count_a"
    COUNT_B = "count_b"


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
    model_b: str
    labels: Sequence[LabelRow]
    boxes: "pa.Table"
    """All boxes of both, with the columns `side` (`a`, `b`), `frame_id`, `detection_number`, `label`, `confidence`,
    `x`, `y`, `width`, `height` in pixels, and `iou` with the matching box of the other model, or NULL."""


@dataclass(frozen=True, slots=True)
class ComparedFrame:
    """One frame that both models processed."""

    frame_id: str
    differing: int
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
    boxes: int


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


def _arrow(engine: Engine, query: str, parameters: dict[str, object] | None = None) -> "pa.Table":
    with engine_errors():
        table: pa.Table = engine.connection.sql(query, params=parameters).to_arrow_table()
        return table
