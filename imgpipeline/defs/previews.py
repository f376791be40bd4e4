"""Previews of a day in the Dagster UI: small tables, and images with boxes.

They are small because metadata is stored in Dagster's event log. An image that cannot be read does not fail a build.
"""

import base64
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import dagster as dg

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import summary_key
from imgpipeline.errors import BadInputError, ImageDeletedError, ImgpipelineError
from imgpipeline.lake.days.summary_inputs import open_tables
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON
from imgpipeline.lake.schema.tables import Column, Table
from imgpipeline.lake.storage.engine import Engine, disk_errors, identifier, open_engine
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ImageReader, ObjectMissingError, ObjectStore
from imgpipeline.settings import Settings

_LONGEST_SIDE = 360
_MOST_BYTES = 15_000
"""Maximum size of the JPEG; base64 makes it a third larger."""
_MOST_BOXES = 50
_MOST_ROWS = 12
_EXAMPLE_SIDE = 320
_EXAMPLE_BYTES = 12_000
_MOST_EXAMPLES = 3
_LABELS = f"""
SELECT label, count(*), count(DISTINCT frame_id), avg(confidence)
FROM detections GROUP BY label ORDER BY count(*) DESC, label LIMIT {_MOST_ROWS}
"""  # noqa: S608 - own number
_SAMPLE = f"""
SELECT source_image_path, label, class_id, confidence, x, y, width, height
FROM detections
WHERE frame_id = (
    SELECT frame_id FROM detections WHERE x IS NOT NULL GROUP BY frame_id
    ORDER BY count(DISTINCT label) DESC, count(*) DESC, frame_id LIMIT 1
)
ORDER BY detection_number LIMIT {_MOST_BOXES}
"""  # noqa: S608 - own number
_MODEL_LABELS = f"""
SELECT model_a, model_b, label, count_a, count_b, matched, only_a, only_b, agreement
FROM read_parquet(?, hive_partitioning = false)
ORDER BY only_a + only_b DESC, count_a + count_b DESC, model_a, model_b, label LIMIT {_MOST_ROWS}
"""  # noqa: S608 - own number
_LETTERS = f"""
SELECT code, count(*), left(min(message), 120)
FROM dead_letters GROUP BY code ORDER BY count(*) DESC, code LIMIT {_MOST_ROWS}
"""  # noqa: S608 - own number
Preview = dict[str, dg.MetadataValue[Any]]
"""Metadata of a day, by name."""


def preview_detections(settings: Settings, store: ObjectStore, day: date) -> Preview:
    """Returns the preview of a day's detections: counts by label, and the image with the most labels.

    Raises:
        PermanentError: The day has no table.
        TransientError: The store does not answer.
    """
    with open_tables(store, ("detections",), day, memory=settings.duckdb_memory) as opened:
        shown: Preview = {
            "labels": show_table(("label", "detections", "frames", "mean confidence"), opened.engine.run(_LABELS))
        }
        sample = _sample(opened.engine)
    picture = show_picture(settings, store, *sample) if sample else None
    return {**shown, "sample": picture} if picture else shown


def preview_dead_letters(settings: Settings, store: ObjectStore, day: date) -> Preview:
    """Returns the preview of a day's dead letters: counts by reason; nothing if there are none.

    Raises:
        PermanentError: The day has no table.
        TransientError: The store does not answer.
    """
    with open_tables(store, ("dead_letters",), day, memory=settings.duckdb_memory) as opened:
        rows = opened.engine.run(_LETTERS)
    return {"reasons": show_table(("code", "dead letters", "for example"), rows)} if rows else {}


def preview_summary(settings: Settings, store: ObjectStore, table: Table, day: date) -> Preview:
    """Returns the preview of a summary: its first rows or those with the highest counts, without lists and maps.

    Raises:
        PermanentError: The day has no such summary.
        TransientError: The store does not answer.
    """
    columns = [column for column in table.columns if column.name != "day" and not _is_nested(column)]
    shown = ", ".join(_shown(column) for column in columns)
    order = "count DESC, label" if "count" in table.names else "ALL"
    with open_tables(store, (table.name,), day, memory=settings.duckdb_memory) as opened:
        query = f"SELECT {shown} FROM {identifier(table.name)} ORDER BY {order} LIMIT {_MOST_ROWS}"  # noqa: S608 - own names
        rows = opened.engine.run(query)
    return {"rows": show_table([column.name for column in columns], rows)}


def _is_nested(column: Column) -> bool:
    return column.duckdb_type.endswith("[]") or column.duckdb_type.startswith("MAP")


def _shown(column: Column) -> str:
    name = identifier(column.name)
    if column.duckdb_type != "TIMESTAMPTZ":
        return name
    return f"strftime({name}, '{'%H:00' if column.name == 'hour' else '%H:%M:%S'}') AS {name}"


def _sample(engine: Engine) -> tuple[str, list[Detection]] | None:
    rows = engine.run(_SAMPLE)
    if not rows:
        return None
    found = [Detection(label, number, sure, (x, y, w, h)) for _, label, number, sure, x, y, w, h in rows]
    return str(rows[0][0]), found


def show_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MetadataValue[str]:
    """Returns a small table for the UI."""
    lines = [header, ["---"] * len(header), *rows]
    return dg.MetadataValue.md("\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines))


def show_picture(
    settings: Settings, store: ObjectStore, path: str, detections: Sequence[Detection]
) -> dg.MetadataValue[str] | None:
    """Returns an image with boxes for the UI, at most 20 kB; None if the image cannot be read.

    For an image that image retention has deleted, it returns a text with the time of the deletion.
    """
    from imgpipeline.vision.annotate import draw_preview, read_pixels  # noqa: PLC0415 - loads OpenCV

    try:
        pixels = read_pixels(ImageReader(store, settings), path)
    except ImageDeletedError as error:
        return dg.MetadataValue.md(_cell(error.message))
    except ImgpipelineError:
        return None
    encoded = draw_preview(pixels, detections, max_side=_LONGEST_SIDE, most_bytes=_MOST_BYTES)
    text = base64.b64encode(encoded).decode()
    return dg.MetadataValue.md(f"![{_cell(path)}](data:image/jpeg;base64,{text})")


def _cell(value: object) -> str:
    """Returns a value as text that cannot end its table cell or become markup."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() and c not in "|[]<>`\\*_" else " " for c in text)


def show_model_labels(settings: Settings, store: ObjectStore, day: date) -> dict[str, dg.MetadataValue[Any]]:
    """Returns a table of the labels on which models differ most; nothing if the day has no comparison.

    Raises:
        TransientError: The store does not answer.
    """
    header = ("a", "b", "label", "in a", "in b", "both", "only a", "only b", "agreement")
    with open_engine(memory=settings.duckdb_memory) as engine:
        path = engine.folder / "comparison.parquet"
        try:
            with disk_errors(engine.folder):
                fetch_table(store, summary_key(MODEL_COMPARISON.name, day), path)
        except ObjectMissingError:
            return {}
        return {"labels": show_table(header, engine.run(_MODEL_LABELS, [str(path)]))}


def show_examples(store: ObjectStore, keys: Sequence[str]) -> dict[str, dg.MetadataValue[Any]]:
    """Returns a few small example images with the boxes of both models; nothing if there are none.

    Raises:
        TransientError: The store does not answer.
    """
    from imgpipeline.vision.annotate import encode_preview  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.vision.decode import ImageLimits, decode_image  # noqa: PLC0415 - loads OpenCV

    # The stored examples have at most 1280 pixels a side, and a legend.
    limits = ImageLimits(max_pixels=4_000_000, max_bytes=2**24)
    shown = []
    for key in _spread(keys):
        try:
            pixels = decode_image(store.get(key), limits).pixels
        except (ObjectMissingError, BadInputError):  # replaced by another build, or damaged
            continue
        small = encode_preview(pixels, _EXAMPLE_SIDE, _EXAMPLE_BYTES)
        shown.append(f"![example](data:image/jpeg;base64,{base64.b64encode(small).decode()})")
    return {"pictures": dg.MetadataValue.md("\n\n".join(shown))} if shown else {}


def _spread(keys: Sequence[str]) -> list[str]:
    """Returns a few keys, starting with one for each pair of models."""
    firsts: dict[str, str] = {}
    for key in keys:
        firsts.setdefault(key.rpartition("/")[0], key)
    chosen = list(firsts.values())
    return (chosen + [key for key in keys if key not in chosen])[:_MOST_EXAMPLES]
