"""The summary `model_comparison`: compares the results of models by day, label and pair of models.

One object per day contains every pair of that day's results, including `live`. `pairs` compares one pair.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from pathlib import PurePosixPath

from imgpipeline.contracts.keys import comparison_example_key, comparison_examples_prefix, summary_key
from imgpipeline.lake.days.derived import Built, Derived, Made, Origin, Start
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON, REDETECTION_SCHEMA_VERSION
from imgpipeline.lake.storage.engine import Engine, identifier, open_engine, read_sql
from imgpipeline.lake.storage.manifest import BaseManifest, StoredObject, read_object, write_parquet
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.redetect.pairs import (
    COMPARED,
    PACKAGE,
    PairComparison,
    compare_pair,
    open_side,
    sides_of,
    versions_of,
)
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonManifest(BaseManifest):
    """How a day's comparison was made; `made_of` has the versions of both objects of each side."""

    examples: Sequence[str]
    """Keys of the stored pictures."""


MOST_EXAMPLES = 10
"""Maximum number of pictures per pair of models and day."""
_QUERIES = ("overlapping", "model_comparison", "example_frames")


@dataclass(frozen=True, slots=True)
class DayComparison(Derived[ComparisonManifest]):
    """A day's comparison of models as a derived object. Its inputs are the results of the models."""

    settings: Settings
    store: ObjectStore
    day: date
    now: datetime

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{MODEL_COMPARISON.name} of {self.day}"

    def read(self) -> dict[str, StoredObject[ComparisonManifest] | None]:
        """Returns the stored comparison."""
        key = summary_key(MODEL_COMPARISON.name, self.day)
        return {key: read_object(self.store, key, ComparisonManifest)}

    def origin(self, manifest: ComparisonManifest, /) -> Origin:
        """Returns the versions of both objects of each side, and the recipe, as its manifest names them."""
        return Origin(manifest.made_of, manifest.made_by)

    def wanted(self, _stored: Mapping[str, StoredObject[ComparisonManifest] | None], /) -> Origin:
        """Returns the versions of the sides that exist now, and the current recipe."""
        names = sides_of(self.store, self.day)
        return Origin(versions_of(self.store, self.day, names), comparison_recipe())

    def make(self, _start: Start[ComparisonManifest], /) -> dict[str, Made[ComparisonManifest]]:
        """Compares each side with each other, and stores the pictures that the table names."""
        with open_engine(memory=self.settings.duckdb_memory) as engine:
            names = sides_of(self.store, self.day)
            sides = [open_side(self.store, engine, name, self.day, f"side{n}") for n, name in enumerate(names)]
            pairs = [compare_pair(engine, a, b) for a, b in itertools.combinations(sides, 2)]
            drawn = {key: jpeg for pair in pairs for key, jpeg in _draw(self.settings, self.store, self.day, pair)}
            for picture, jpeg in drawn.items():
                self.store.put(picture, jpeg)
            _fill(engine, self.day, pairs, drawn)
            manifest = ComparisonManifest(
                table=MODEL_COMPARISON.name, day=self.day, made_by=comparison_recipe(),
                made_of={side.name: side.versions for side in sides}, examples=sorted(drawn), built_at=self.now,
            )  # fmt: skip
            query, size = "SELECT * FROM compared_labels", self.settings.table_object_bytes
            made = Made(*write_parquet(engine, query, manifest, object_bytes=size))
        return {summary_key(MODEL_COMPARISON.name, self.day): made}

    def finish(self, done: Built[ComparisonManifest], /) -> Built[ComparisonManifest]:
        """Removes the pictures of the comparison that a build has replaced."""
        if not done.skipped:
            for info in self.store.list_objects(comparison_examples_prefix(self.day)):
                if info.key not in done.manifest.examples and PurePosixPath(info.key).suffix == ".jpg":
                    self.store.delete(info.key)
        return done


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


def _fill(engine: Engine, day: date, pairs: Sequence[PairComparison], drawn: Collection[str]) -> None:
    typed = {column.name: column.duckdb_type for column in MODEL_COMPARISON.columns if column.name != "day"}
    engine.run(f"CREATE TABLE compared_labels ({', '.join(f'{identifier(name)} {of}' for name, of in typed.items())})")
    for pair in pairs:
        keys = {e.frame_id: comparison_example_key(day, pair.model_a, pair.model_b, e.frame_id) for e in pair.examples}
        shown = [(keys[e.frame_id], e.labels) for e in pair.examples if keys[e.frame_id] in drawn]
        for label in pair.labels:
            row = {**label, "examples": [key for key, labels in shown if label["label"] in labels]}
            marks = ", ".join("?" * len(typed))
            engine.run(f"INSERT INTO compared_labels VALUES ({marks})", [row[name] for name in typed])  # noqa: S608 - own names


def comparison_recipe() -> str:
    """Returns the hash of the columns and the SQL that make a comparison, 16 hexadecimal digits."""
    parts = (REDETECTION_SCHEMA_VERSION, MOST_EXAMPLES, MODEL_COMPARISON.names, COMPARED,
             *(read_sql(PACKAGE, name) for name in _QUERIES))  # fmt: skip
    return sha256(repr(parts).encode()).hexdigest()[:16]
