"""The summary `model_comparison`: compares the results of models by day, label and pair of models.

One object per day contains every pair of that day's results, including `live`. `pairs` compares one pair.
"""

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from imgpipeline.contracts.keys import comparison_example_key, comparison_examples_prefix, summary_key
from imgpipeline.contracts.times import format_time
from imgpipeline.lake.days.derived import Derived, Made, Origin, Start, build
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON, REDETECTION_SCHEMA_VERSION
from imgpipeline.lake.storage.engine import Engine, identifier, open_engine
from imgpipeline.lake.storage.manifest import StoredObject, read_object, write_rows
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.redetect.pairs import (
    COMPARED,
    PairComparison,
    compare_pair,
    open_side,
    read_sql,
    sides_of,
    versions_of,
)
from imgpipeline.settings import Settings

Document = Mapping[str, Any]
MOST_EXAMPLES = 10
"""Maximum number of pictures per pair of models and day."""
_QUERIES = ("overlapping", "model_comparison", "example_frames")


@dataclass(frozen=True, slots=True)
class ComparisonBuild:
    """How a day's comparison was built, or that there was nothing to do."""

    day: date
    skipped: bool
    models: tuple[str, ...]
    rows: int
    examples: tuple[str, ...]
    size_bytes: int
    duration_s: float


def build_comparison(
    settings: Settings, store: ObjectStore, day: date, *, force: bool = False, now: datetime
) -> ComparisonBuild:
    """Updates a day's comparison to the stored results.

    Args:
        settings: Limits of pictures.
        store: The object store.
        day: UTC day.
        force: Compare again even if no input changed.
        now: Build time for the footer.

    Raises:
        PermanentError: The day has no table `detections`, or a stored object does not belong to this project.
        TransientError: The store does not answer, or the build lost the write race repeatedly.
    """
    began_s = time.perf_counter()
    done = build(DayComparison(settings, store, day, now), force=force)
    (document,) = done.manifests.values()
    if not done.skipped:
        _remove_examples(store, day, set(document["examples"]))
    return ComparisonBuild(
        day=day,
        skipped=done.skipped,
        models=tuple(document["made_of"]),
        rows=document["rows"],
        examples=tuple(document["examples"]),
        size_bytes=done.size_bytes,
        duration_s=time.perf_counter() - began_s,
    )


@dataclass(frozen=True, slots=True)
class DayComparison(Derived[Document]):
    """A day's comparison of models as a derived object. Its inputs are the results of the models."""

    settings: Settings
    store: ObjectStore
    day: date
    now: datetime

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{MODEL_COMPARISON.name} of {self.day}"

    def read(self) -> dict[str, StoredObject[Document] | None]:
        """Returns the stored comparison."""
        key = summary_key(MODEL_COMPARISON.name, self.day)
        return {key: read_object(self.store, key, _read_document)}

    def origin(self, manifest: Document, /) -> Origin:
        """Returns the versions of both objects of each side, and the recipe, as its document names them."""
        return Origin(_versions(manifest["made_of"]), manifest["made_by"])

    def wanted(self, _stored: Mapping[str, StoredObject[Document] | None], /) -> Origin:
        """Returns the versions of the sides that exist now, and the current recipe."""
        names = sides_of(self.store, self.day)
        return Origin(_versions(versions_of(self.store, self.day, names)), comparison_recipe())

    def make(self, _start: Start[Document], /) -> dict[str, Made[Document]]:
        """Compares each side with each other, and stores the pictures that the table names."""
        with open_engine(memory=self.settings.duckdb_memory) as engine:
            names = sides_of(self.store, self.day)
            sides = [open_side(self.store, engine, name, self.day, f"side{n}") for n, name in enumerate(names)]
            pairs = [compare_pair(engine, a, b) for a, b in itertools.combinations(sides, 2)]
            drawn = {key: jpeg for pair in pairs for key, jpeg in _draw(self.settings, self.store, self.day, pair)}
            for picture, jpeg in drawn.items():
                self.store.put(picture, jpeg)
            document = {
                "table": MODEL_COMPARISON.name, "day": self.day.isoformat(),
                "made_by": comparison_recipe(), "made_of": {side.name: list(side.versions) for side in sides},
                "rows": _fill(engine, self.day, pairs, drawn), "examples": sorted(drawn),
                "built_at": format_time(self.now),
            }  # fmt: skip
            footer = json.dumps(document, ensure_ascii=False)
            query, size = "SELECT * FROM compared_labels", self.settings.table_object_bytes
            data = write_rows(engine, MODEL_COMPARISON.name, query, footer, object_bytes=size)
        return {summary_key(MODEL_COMPARISON.name, self.day): Made(data, document)}


def _read_document(text: bytes) -> Document:
    document: Document = json.loads(text)
    _versions(document["made_of"])
    return document


def _versions(made_of: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {name: " ".join(versions) for name, versions in made_of.items()}


def _draw(settings: Settings, store: ObjectStore, day: date, pair: PairComparison) -> Iterator[tuple[str, bytes]]:
    from imgpipeline.redetect.examples import draw_example  # noqa: PLC0415 - loads OpenCV

    images = ImageReader(store, settings)
    drawn = 0
    for each in pair.examples:
        if drawn == MOST_EXAMPLES:
            return
        jpeg = draw_example(images, each.path, (pair.model_a, each.found_a), (pair.model_b, each.found_b))
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
    parts = (REDETECTION_SCHEMA_VERSION, MOST_EXAMPLES, MODEL_COMPARISON.names, COMPARED, *map(read_sql, _QUERIES))
    return sha256(repr(parts).encode()).hexdigest()[:16]
