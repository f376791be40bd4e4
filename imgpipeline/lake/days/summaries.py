"""Daily summaries: one `.sql` file each, over the day's tables and other summaries.

The manifest of a summary names the versions of its inputs and its exact query, so that `audit` can build it again. A
new summary needs a file in `sql/`, an entry in `SUMMARIES`, and its columns in `lake.schema.tables`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import TypeVar

from imgpipeline.contracts.keys import summary_key
from imgpipeline.lake.days.derived import Derived, Made, Origin, Start
from imgpipeline.lake.days.summary_inputs import Inputs, find_inputs, open_inputs
from imgpipeline.lake.schema.tables import (
    DETECTIONS,
    FRAME_STATS,
    FRAMES,
    LABEL_COUNTS,
    LABEL_TIMESTAMPS,
    LABEL_TOTALS,
    NOTICES,
    SCHEMA_VERSION,
    SOURCE_ACTIVITY,
    STORED_DEAD_LETTERS,
    Table,
)
from imgpipeline.lake.storage.engine import Engine, identifier, read_sql
from imgpipeline.lake.storage.manifest import Manifest, Stored, read_stored, write_parquet
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

_PACKAGE = "imgpipeline.lake.days"
_THRESHOLD = "summary_threshold"
_OBSERVED_GAP = "observed_gap_s"
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Summary:
    """One registered summary."""

    table: Table
    """Its columns; the table's name is also the name of the `.sql` file."""
    inputs: tuple[str, ...]
    """Names of the stored tables that it reads: day tables, or earlier summaries of the registry."""
    question: str
    parameters: tuple[str, ...] = ()
    """Names of the settings that its query reads as variables of DuckDB."""

    @property
    def name(self) -> str:
        """Name in keys, commands and SQL."""
        return self.table.name

    @property
    def sql(self) -> str:
        """The query: reads its inputs by their names, without a final semicolon.

        Its macros `local_hour` and `local_day` are those of UTC (`open_engine`), except in a session of another zone.
        """
        return read_sql(_PACKAGE, self.name)


_FRAMES_AND_LETTERS = (FRAMES.name, STORED_DEAD_LETTERS.name)

SUMMARIES: Mapping[str, Summary] = {
    summary.name: summary
    for summary in (
        Summary(
            LABEL_COUNTS,
            (DETECTIONS.name,),
            "How many of which label did each source see by hour?",
            (_THRESHOLD,),
        ),
        Summary(LABEL_TIMESTAMPS, (DETECTIONS.name,), "When did each source see which label?", (_THRESHOLD,)),
        Summary(LABEL_TOTALS, (LABEL_COUNTS.name,), "How many of which label did each source see all day?"),
        Summary(
            FRAME_STATS,
            (*_FRAMES_AND_LETTERS, NOTICES.name),
            "How many frames came from which source in which hour, how large, bright and sharp were they, and how "
            "soon were they processed? For how long was each source observed?",
            (_OBSERVED_GAP,),
        ),
        Summary(
            SOURCE_ACTIVITY,
            _FRAMES_AND_LETTERS,
            "Which sources were there, from when to when, and for how long was each silent?",
        ),
    )
}
"""All summaries by name, each after the summaries that it reads."""


def recipe(name: str, settings: Settings) -> str:
    """Returns the hash of everything but the day tables that determines a summary, 16 hexadecimal digits.

    It covers the schema version, the query, the settings that the query reads, and the recipes of its input summaries.
    """
    summary = SUMMARIES[name]
    below = {other: recipe(other, settings) for other in summary.inputs if other in SUMMARIES}
    return _recipe(summary, settings, below)


def _recipe(summary: Summary, settings: Settings, below: Mapping[str, str]) -> str:
    parts = (SCHEMA_VERSION, summary.sql, sorted(parameters_of(summary, settings).items()), sorted(below.items()))
    return sha256(repr(parts).encode()).hexdigest()[:16]


def parameters_of(summary: Summary, settings: Settings) -> dict[str, float]:
    """Returns the settings that a summary's query reads, by name."""
    return {name: float(getattr(settings, name)) for name in summary.parameters}


def set_parameters(engine: Engine, parameters: Mapping[str, float]) -> None:
    """Sets DuckDB variables to settings, for queries to read."""
    for name, value in parameters.items():
        engine.run(f"SET VARIABLE {identifier(name)} = {float(value)!r}::DOUBLE")


@dataclass(slots=True)
class DaySummary(Derived[Manifest]):
    """A day's summary as a derived object. Its inputs are stored tables of the day."""

    store: ObjectStore
    summary: Summary
    day: date
    """UTC day."""
    settings: Settings
    now: datetime

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.summary.name} of {self.day}"

    def read(self) -> dict[str, Stored | None]:
        """Returns the stored summary."""
        key = summary_key(self.summary.name, self.day)
        return {key: read_stored(self.store, key)}

    def origin(self, manifest: Manifest, /) -> Origin:
        """Returns the origin in its manifest."""
        return summary_origin(manifest)

    def wanted(self, _stored: Mapping[str, Stored | None], /) -> Origin:
        """Returns the versions of its inputs, and the recipe over its input summaries as stored."""
        found = find_inputs(self.store, self.summary.inputs, self.day, wanted_by=self.summary.name)
        below = {name: stored.manifest.made_by for name, stored in found.items() if name in SUMMARIES}
        versions = {name: stored.manifest.version for name, stored in found.items()}
        return Origin(versions, _recipe(self.summary, self.settings, below))

    def make(self, _start: Start[Manifest], /) -> dict[str, Made[Manifest]]:
        """Makes the summary, once a build that is storing its inputs is done."""
        name, memory = self.summary.name, self.settings.duckdb_memory
        with open_inputs(self.store, self.summary.inputs, self.day, wanted_by=name, memory=memory) as inputs:
            return {summary_key(name, self.day): self._made_from(inputs)}

    def _made_from(self, inputs: Inputs) -> Made[Manifest]:
        engine, summary, parameters = inputs.engine, self.summary, parameters_of(self.summary, self.settings)
        set_parameters(engine, parameters)
        engine.run(f"CREATE TABLE made AS {summary.sql}")
        below = {name: manifest for name, manifest in inputs.manifests.items() if name in SUMMARIES}
        manifest = Manifest(
            table=summary.name,
            day=self.day,
            made_by=_recipe(summary, self.settings, {name: below[name].made_by for name in below}),
            ends=next(iter(inputs.manifests.values())).ends,
            built_at=self.now,
            made_of=inputs.versions,
            sql=summary.sql,
            parameters=parameters | _merged(manifest.parameters for manifest in below.values()),
            queries=_merged({**manifest.queries, name: manifest.sql} for name, manifest in below.items()),
        )
        rows, size = "SELECT * EXCLUDE (day) FROM made", self.settings.table_object_bytes
        return Made(*write_parquet(engine, rows, manifest, object_bytes=size))


def summary_origin(manifest: Manifest) -> Origin:
    """Returns the inputs and recipe of a stored summary, from its manifest."""
    return Origin(manifest.made_of, manifest.made_by)


def _merged(several: Iterable[Mapping[str, _Value]]) -> dict[str, _Value]:
    return {name: value for each in several for name, value in each.items()}
