"""Comparing what models find: per day, label and pair of models.

Owns the summary `model_comparison`, one object a day with all pairs of that day: `live` with each model that has looked
again, and those with each other; and its pictures. It promises that the object names the versions it was made of, and
never goes backwards. Comparing one pair belongs to `pairs`.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from imgpipeline.contracts.keys import comparison_example_key, comparison_examples_prefix, summary_key
from imgpipeline.contracts.times import format_time
from imgpipeline.errors import TransientError
from imgpipeline.lake.engine import Engine, identifier, open_engine
from imgpipeline.lake.tables import SCHEMA_VERSION
from imgpipeline.lake.tables.redetections import MODEL_COMPARISON
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.redetect.footers import Footer, put_over, read_footer, write_parquet
from imgpipeline.redetect.matching import read_sql
from imgpipeline.redetect.pairs import COMPARED, PairComparison, compare_pair
from imgpipeline.redetect.sides import open_side, sides_of, versions_of
from imgpipeline.settings import Settings

_ATTEMPTS = 8
MOST_EXAMPLES = 10
"""Pictures of one pair of models and day."""
_QUERIES = ("overlapping", "model_comparison", "example_frames")


@dataclass(frozen=True, slots=True)
class ComparisonBuild:
    """How a day's comparison was built, or that there was nothing to do."""

    day: date
    """UTC day."""
    skipped: bool
    """Whether it was there already."""
    models: tuple[str, ...]
    """What was compared, each with each."""
    rows: int
    """Rows of the table."""
    examples: tuple[str, ...]
    """Keys of all pictures."""
    size_bytes: int
    """Size of the table's object."""
    e_tag: str
    """Its version."""
    duration_s: float
    """How long this call took, in seconds."""


def build_comparison(
    settings: Settings, store: ObjectStore, day: date, *, force: bool = False, now: datetime
) -> ComparisonBuild:
    """Brings a day's comparison up to what is stored of it.

    Args:
        settings: Limits of pictures.
        store: The object store.
        day: UTC day.
        force: Compare again also where nothing is new.
        now: What the footer says as the time of building.

    Raises:
        PermanentError: The day has no table `detections`, or a stored object is none of this project.
        TransientError: The store does not answer, or other builds were faster time and again.
    """
    began_s, key = time.perf_counter(), summary_key(MODEL_COMPARISON.name, day)
    for _ in range(_ATTEMPTS):
        # The result's version first: then what is read after it is never older than what it was made of.
        before = read_footer(store, key)
        names = sides_of(store, day)
        wanted = {"made_by": comparison_recipe(), "made_of": versions_of(store, day, names)}
        if before and not force and all(before.document.get(name) == value for name, value in wanted.items()):
            return _report(day, before, began_s, skipped=True)
        with open_engine() as engine:
            sides = [open_side(store, engine, name, day, f"side{n}") for n, name in enumerate(names)]
            pairs = [compare_pair(engine, a, b) for a, b in itertools.combinations(sides, 2)]
            drawn = {key: jpeg for pair in pairs for key, jpeg in _draw(settings, store, day, pair)}
            for picture, jpeg in drawn.items():
                store.put(picture, jpeg)
            document = {
                "table": MODEL_COMPARISON.name, "day": day.isoformat(), "schema_version": SCHEMA_VERSION,
                "made_by": comparison_recipe(), "made_of": {side.name: list(side.versions) for side in sides},
                "rows": _fill(engine, day, pairs, drawn), "examples": sorted(drawn), "built_at": format_time(now),
            }  # fmt: skip
            data = write_parquet(engine, MODEL_COMPARISON.name, "SELECT * FROM compared_labels", document)
        if put_over(store, key, data, before.e_tag if before else None):
            _remove_examples(store, day, set(drawn))
            after = read_footer(store, key)
            if after is not None:
                return _report(day, after, began_s, skipped=False)
    raise TransientError(f"{_ATTEMPTS} comparisons of {day} were overtaken by others; the table is theirs.")


def _draw(settings: Settings, store: ObjectStore, day: date, pair: PairComparison) -> Iterator[tuple[str, bytes]]:
    from imgpipeline.redetect.examples import draw_example  # noqa: PLC0415 - loads OpenCV

    images = ImageReader(store, settings)
    drawn = 0
    for each in pair.examples:
        if drawn == MOST_EXAMPLES:
            return
        jpeg = draw_example(settings, images, each.path, (pair.model_a, each.found_a), (pair.model_b, each.found_b))
        if jpeg is not None:
            drawn += 1
            yield comparison_example_key(day, pair.model_a, pair.model_b, each.frame_id), jpeg


def _fill(engine: Engine, day: date, pairs: Sequence[PairComparison], drawn: Mapping[str, bytes]) -> int:
    columns = [column for column in MODEL_COMPARISON.columns if column.name != "day"]
    typed = ", ".join(f"{identifier(column.name)} {column.duckdb_type}" for column in columns)
    engine.run(f"CREATE TABLE compared_labels ({typed})")
    rows = 0
    for pair in pairs:
        keys = {e.frame_id: comparison_example_key(day, pair.model_a, pair.model_b, e.frame_id) for e in pair.examples}
        for label in pair.labels:
            examples = [
                keys[e.frame_id] for e in pair.examples if label.label in e.labels and keys[e.frame_id] in drawn
            ]
            values = [
                examples if column.name == "examples" else _plain(getattr(label, column.name)) for column in columns
            ]
            engine.run(f"INSERT INTO compared_labels VALUES ({', '.join('?' * len(columns))})", values)  # noqa: S608 - own names
            rows += 1
    return rows


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _remove_examples(store: ObjectStore, day: date, kept: set[str]) -> None:
    for info in store.list_objects(comparison_examples_prefix(day)):
        if info.key not in kept and PurePosixPath(info.key).suffix == ".jpg":
            store.delete(info.key)


def comparison_recipe() -> str:
    """Returns the hash of the columns and the SQL that make a comparison, 16 hexadecimal digits."""
    parts = (SCHEMA_VERSION, MOST_EXAMPLES, MODEL_COMPARISON.names, COMPARED, *map(read_sql, _QUERIES))
    return sha256(repr(parts).encode()).hexdigest()[:16]


def _report(day: date, stored: Footer, began_s: float, *, skipped: bool) -> ComparisonBuild:
    document = stored.document
    return ComparisonBuild(
        day=day,
        skipped=skipped,
        models=tuple(document["made_of"]),
        rows=document["rows"],
        examples=tuple(document["examples"]),
        size_bytes=stored.size_bytes,
        e_tag=stored.e_tag,
        duration_s=time.perf_counter() - began_s,
    )
