"""The table `accuracy` of a day: what people counted on a random sample of frames, compared with the model.

It exists on days for which somebody has made a plan (`accuracy.plans`). It is made of the day's frames and detections,
and of the plans and answers of the day, and is made again when any of them changes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Any

from imgpipeline.accuracy.answers import read_answers
from imgpipeline.accuracy.plans import list_inputs, read_plans
from imgpipeline.contracts.keys import ACCURACY_PLANS, summary_key
from imgpipeline.lake.days.derived import Derived, Made, Origin, Start
from imgpipeline.lake.days.measuring import measure
from imgpipeline.lake.days.summary_inputs import find_inputs, open_inputs
from imgpipeline.lake.schema.accuracy import ACCURACY, ACCURACY_SCHEMA_VERSION
from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES
from imgpipeline.lake.storage.engine import Engine, identifier
from imgpipeline.lake.storage.manifest import Manifest, Stored, read_stored, write_parquet
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_TABLES = (FRAMES.name, DETECTIONS.name)
_ANSWERS = "plans and answers"


@dataclass(frozen=True, slots=True)
class DayAccuracy(Derived[Manifest]):
    """A day's table `accuracy` as a derived object."""

    store: ObjectStore
    settings: Settings
    day: date
    """UTC day."""
    now: datetime

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{ACCURACY.name} of {self.day}"

    def read(self) -> dict[str, Stored | None]:
        """Returns the stored table."""
        key = summary_key(ACCURACY.name, self.day)
        return {key: read_stored(self.store, key)}

    def origin(self, manifest: Manifest, /) -> Origin:
        """Returns the inputs and recipe in its manifest."""
        return Origin(manifest.made_of, manifest.made_by)

    def wanted(self, _stored: Mapping[str, Stored | None], /) -> Origin:
        """Returns the versions of the tables and of the plans and answers, and the current recipe."""
        found = find_inputs(self.store, _TABLES, self.day, wanted_by=ACCURACY.name)
        versions = {name: stored.manifest.version for name, stored in found.items()}
        return Origin(versions | {_ANSWERS: self._answers_version()}, accuracy_recipe(self.settings))

    def make(self, _start: Start[Manifest], /) -> dict[str, Made[Manifest]]:
        """Compares the answers with the detections; answers that arrive meanwhile make the result stale."""
        answers = self._answers_version()
        memory, threshold = self.settings.duckdb_memory, self.settings.summary_threshold
        with open_inputs(self.store, _TABLES, self.day, wanted_by=ACCURACY.name, memory=memory) as inputs:
            rows = [
                row.to_record()
                for plan in read_plans(self.store, self.day)
                for row in measure(inputs.engine.run, plan, read_answers(self.store, self.day, plan.source), threshold)
            ]
            _fill(inputs.engine, rows)
            manifest = Manifest(
                table=ACCURACY.name, day=self.day, made_by=accuracy_recipe(self.settings), built_at=self.now,
                ends=inputs.manifests[FRAMES.name].ends, made_of={**inputs.versions, _ANSWERS: answers},
            )  # fmt: skip
            query, size = "SELECT * FROM measured ORDER BY source, label, part", self.settings.table_object_bytes
            made = Made(*write_parquet(inputs.engine, query, manifest, object_bytes=size))
        return {summary_key(ACCURACY.name, self.day): made}

    def _answers_version(self) -> str:
        """Returns a hash of the keys of the day's plans and answers, which are never replaced."""
        return sha256("\n".join(list_inputs(self.store, self.day)).encode()).hexdigest()[:16]


def has_plan(store: ObjectStore, day: date) -> bool:
    """Tells whether a day has a plan, and so gets the table."""
    return next(iter(store.list_objects(f"{ACCURACY_PLANS}/day={day.isoformat()}")), None) is not None


def _fill(engine: Engine, rows: Iterable[Mapping[str, Any]]) -> None:
    typed = {column.name: column.duckdb_type for column in ACCURACY.columns if column.name != "day"}
    engine.run(f"CREATE TABLE measured ({', '.join(f'{identifier(name)} {of}' for name, of in typed.items())})")
    marks = ", ".join("?" * len(typed))
    for row in rows:
        engine.run(f"INSERT INTO measured VALUES ({marks})", [row[name] for name in typed])  # noqa: S608 - own names


def accuracy_recipe(settings: Settings) -> str:
    """Returns the hash of everything but the inputs that determines the table, 16 hexadecimal digits."""
    parts = (ACCURACY_SCHEMA_VERSION, ACCURACY.names, settings.summary_threshold)
    return sha256(repr(parts).encode()).hexdigest()[:16]
