"""What the Dagster UI shows of a comparison: a small table, and a few small images with the boxes of both models.

The full-size images are in the store.
"""

import base64
from collections.abc import Sequence
from datetime import date
from typing import Any

import dagster as dg

from imgpipeline.contracts.keys import summary_key
from imgpipeline.defs.previews import show_table
from imgpipeline.errors import BadInputError
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON
from imgpipeline.lake.storage.engine import disk_errors, open_engine
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.previews import encode_preview

_LIMITS = ImageLimits(max_pixels=4_000_000, max_bytes=2**24)
"""Of the stored examples, which are at most 1280 pixels wide or high, and a legend."""
_MOST_ROWS = 12
_MOST_PICTURES = 3
_LONGEST_SIDE = 320
_MOST_BYTES = 12_000
"""Of one JPEG; as base64 it is a third larger."""
_HEADER = ("a", "b", "label", "in a", "in b", "both", "only a", "only b", "agreement")
_LABELS = f"""
SELECT model_a, model_b, label, count_a, count_b, matched, only_a, only_b, agreement
FROM read_parquet(?, hive_partitioning = false)
ORDER BY only_a + only_b DESC, count_a + count_b DESC, model_a, model_b, label LIMIT {_MOST_ROWS}
"""  # noqa: S608 - a number of our own


def show_labels(settings: Settings, store: ObjectStore, day: date) -> dict[str, dg.MetadataValue[Any]]:
    """Returns the labels in which models differ most; nothing if the day has no comparison.

    Raises:
        TransientError: The store does not answer.
    """
    with open_engine(memory=settings.duckdb_memory) as engine:
        path = engine.folder / "comparison.parquet"
        try:
            with disk_errors(engine.folder):
                fetch_table(store, summary_key(MODEL_COMPARISON.name, day), path)
        except ObjectMissingError:
            return {}
        return {"labels": show_table(_HEADER, engine.run(_LABELS, [str(path)]))}


def show_examples(store: ObjectStore, keys: Sequence[str]) -> dict[str, dg.MetadataValue[Any]]:
    """Returns a few of the pictures, small; nothing if there is none.

    Raises:
        TransientError: The store does not answer.
    """
    shown = []
    for key in _spread(keys):
        try:
            pixels = decode_image(store.get(key), _LIMITS).pixels
        except (ObjectMissingError, BadInputError):  # another build has drawn others since, or it is damaged
            continue
        small = encode_preview(pixels, _LONGEST_SIDE, _MOST_BYTES)
        shown.append(f"![example](data:image/jpeg;base64,{base64.b64encode(small).decode()})")
    return {"pictures": dg.MetadataValue.md("\n\n".join(shown))} if shown else {}


def _spread(keys: Sequence[str]) -> list[str]:
    """Returns a few keys: of each pair of models one, as long as there is room."""
    firsts: dict[str, str] = {}
    for key in keys:
        firsts.setdefault(key.rpartition("/")[0], key)
    chosen = list(firsts.values())
    return (chosen + [key for key in keys if key not in chosen])[:_MOST_PICTURES]
