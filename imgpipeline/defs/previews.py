"""What of a day is shown in the UI: a small table, and one picture with what was found in it.

Owns the questions, their size (metadata lies in Dagster's event log), and that a picture that cannot be read any more
fails no build. How tables are read belongs to `lake`.
"""

import base64
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import dagster as dg

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import summary_key
from imgpipeline.errors import ImgpipelineError
from imgpipeline.lake.engine import Engine, open_engine
from imgpipeline.lake.summaries import detections_engine, fetch_detections
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.vision.annotate import draw_detections, encode_jpeg
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image

_LONGEST_SIDE = 360
_QUALITIES = (70, 50, 30, 15)
_MOST_BYTES = 15_000
"""Of the JPEG; as base64 it is a third larger."""
_MOST_BOXES = 50
_MOST_ROWS = 12

_LABELS = f"""
SELECT label, count(*), count(DISTINCT frame_id), avg(confidence)
FROM detections GROUP BY label ORDER BY count(*) DESC, label LIMIT {_MOST_ROWS}
"""  # noqa: S608 - a number of our own
_SAMPLE = f"""
SELECT source_image_path, label, class_id, confidence, x, y, width, height
FROM detections
WHERE frame_id = (
    SELECT frame_id FROM detections GROUP BY frame_id
    ORDER BY count(DISTINCT label) DESC, count(*) DESC, frame_id LIMIT 1
)
ORDER BY detection_number LIMIT {_MOST_BOXES}
"""  # noqa: S608 - a number of our own

_COUNTS = f"""
SELECT strftime(hour, '%H:00'), label, count, mean_confidence
FROM read_parquet(?) ORDER BY count DESC, hour, label LIMIT {_MOST_ROWS}
"""  # noqa: S608 - a number of our own


def preview_detections(settings: Settings, store: ObjectStore, day: date) -> dict[str, dg.MetadataValue[Any]]:
    """Returns what is shown of a day's detections: the labels, and the picture with the most different ones.

    Raises:
        PermanentError: The day has no table.
        TransientError: The store does not answer.
    """
    with detections_engine(fetch_detections(store, day).data, day) as engine:
        shown: dict[str, dg.MetadataValue[Any]] = {
            "labels": show_table(("label", "detections", "frames", "mean confidence"), engine.run(_LABELS))
        }
        sample = _sample(engine)
    picture = show_picture(settings, store, *sample) if sample else None
    return {**shown, "sample": picture} if picture else shown


def preview_summary(store: ObjectStore, name: str, day: date) -> dict[str, dg.MetadataValue[Any]]:
    """Returns what is shown of `label_counts`: its rows with the highest counts.

    Raises:
        ObjectMissingError: The day has no summary.
        TransientError: The store does not answer.
    """
    data = store.get(summary_key(name, day))
    with open_engine() as engine:
        path = engine.folder / "summary.parquet"
        path.write_bytes(data)
        rows = engine.run(_COUNTS, [str(path)])
    return {"counts": show_table(("hour (UTC)", "label", "count", "mean confidence"), rows)}


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
    """Returns a picture with boxes for the UI, at most 20 kB; None where the image can no longer be read."""
    try:
        data = ImageReader(store, settings).read(path).data
        limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
        drawn = draw_detections(decode_image(data, limits).pixels, detections)
        encoded = _small_jpeg(drawn)
    except ImgpipelineError:
        return None
    text = base64.b64encode(encoded).decode()
    return dg.MetadataValue.md(f"![{_cell(path)}](data:image/jpeg;base64,{text})")


def _small_jpeg(drawn: Pixels) -> bytes:
    encoded = b""
    for quality in _QUALITIES:
        encoded = encode_jpeg(drawn, _LONGEST_SIDE, quality)
        if len(encoded) <= _MOST_BYTES:
            break
    return encoded


def _cell(value: object) -> str:
    """Returns a value so that it cannot end its cell, or become markup."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() and c not in "|[]<>`\\*_" else " " for c in text)
