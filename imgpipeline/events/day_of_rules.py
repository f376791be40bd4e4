"""Base class of the daily tables that rules make: chooses the rules of a day, opens its inputs, and writes the rows."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import ValidationError

from imgpipeline.events.configuration import Rules
from imgpipeline.lake.days.derived import Derived, Made, Origin, Start
from imgpipeline.lake.days.summary_inputs import Inputs, find_inputs, open_inputs, stored_key
from imgpipeline.lake.schema.tables import Table
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import Engine, all_rows, identifier
from imgpipeline.lake.storage.manifest import (
    Manifest,
    Stored,
    parse_footer,
    read_stored,
    write_parquet,
)
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

Row = dict[str, Any]
"""One row by the names of its columns, without `day`."""
RULES = "rules"
"""Key of the rules in `Manifest.made_with`; the value is JSON."""


@dataclass(slots=True)
class DayOfRules(Derived[Manifest]):
    """A table of a day that rules make, as a derived object."""

    table: ClassVar[Table]
    """Name and columns of the table."""

    store: ObjectStore
    settings: Settings
    """Limits of images and of DuckDB, and the time zone of hours."""
    rules: Rules
    day: date
    now: datetime
    keeps_rules: bool = False
    """Whether past days keep the rules of their stored table."""

    @property
    def name(self) -> str:
        """Name of the object in messages."""
        return f"{self.table.name} of {self.day}"

    @property
    def key(self) -> str:
        """Key of the stored object."""
        return stored_key(self.table.name, self.day)

    def read(self) -> dict[str, Stored | None]:
        """Returns the stored table."""
        return {self.key: read_stored(self.store, self.key)}

    def origin(self, manifest: Manifest, /) -> Origin:
        """Returns the inputs and the recipe in a manifest."""
        return Origin(manifest.made_of, manifest.made_by)

    def wanted(self, stored: Mapping[str, Stored | None], /) -> Origin:
        """Returns the current versions of the inputs, and the current recipe."""
        rules = self.rules_of(stored)
        tables = find_inputs(self.store, self.inputs(rules), self.day, wanted_by=self.table.name)
        versions = {name: found.manifest.version for name, found in tables.items()}
        for name in self.track_inputs(rules):
            found = read_stored(self.store, stored_key(name, self.day))
            versions[name] = found.manifest.version if found else ""
        return Origin(versions, self.recipe(rules))

    def make(self, start: Start[Manifest], /) -> dict[str, Made[Manifest]]:
        """Makes the table."""
        rules = self.rules_of(start.stored)
        name, memory = self.table.name, self.settings.duckdb_memory
        with open_inputs(self.store, self.inputs(rules), self.day, wanted_by=name, memory=memory) as opened:
            inputs = replace(opened, versions={**opened.versions, **self._open_tracks(opened.engine, rules)})
            rows, made_with = self.rows(inputs, rules, None if start.force else start.stored[self.key])
            manifest = Manifest(
                table=self.table.name,
                day=self.day,
                made_by=self.recipe(rules),
                ends=next(iter(inputs.manifests.values())).ends,
                built_at=self.now,
                made_of=inputs.versions,
                made_with={RULES: rules.model_dump_json(exclude_defaults=True), **made_with},
            )
            size = self.settings.table_object_bytes
            return {self.key: _write(inputs.engine, self.table, rows, manifest, object_bytes=size)}

    def rules_of(self, stored: Mapping[str, Stored | None]) -> Rules:
        """Returns the current rules; for a past day that keeps its rules, those of the stored table."""
        found = stored[self.key]
        if self.keeps_rules and found and self.day < self.now.date():
            try:
                return Rules.model_validate_json(found.manifest.made_with.get(RULES, ""))
            except ValidationError:  # written by another release
                return self.rules
        return self.rules

    @abstractmethod
    def inputs(self, rules: Rules, /) -> tuple[str, ...]:
        """Returns the names of the stored tables that it reads."""

    def track_inputs(self, _rules: Rules, /) -> tuple[str, ...]:
        """Returns the names of the tables of tracks that it reads; a missing one reads as empty."""
        return ()

    @abstractmethod
    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of the code version and of the rules that determine the rows."""

    @abstractmethod
    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> tuple[list[Row], dict[str, str]]:
        """Returns all rows in order, and the entries of `Manifest.made_with`.

        Rows of the stored table may be copied; without one, all rows are made again.
        """

    def stored_rows(self, engine: Engine, stored: Stored | None) -> list[Row]:
        """Returns the rows of the stored table; none if it has been replaced since it was read."""
        if stored is None:
            return []
        path = engine.folder / f"{self.table.name}-stored.parquet"
        with open_cache(self.store) as (_, cache):
            if cache.link(self.key, stored.e_tag, path) != stored.e_tag:
                return []
        return select_rows(engine, all_rows(path))

    def _open_tracks(self, engine: Engine, rules: Rules) -> dict[str, str]:
        """Opens the tables of tracks, and returns the version of each; empty for a missing table."""
        versions = {}
        with open_cache(self.store) as (_, cache):
            for table in (table for table in TRACK_TABLES if table.name in self.track_inputs(rules)):
                key, path = stored_key(table.name, self.day), engine.folder / f"{table.name}-read.parquet"
                info = self.store.head(key)
                if info and cache.link(key, info.e_tag, path):
                    versions[table.name] = parse_footer(path, key).version
                    engine.run(f"CREATE VIEW {table.name} AS {all_rows(path, day=self.day)}")
                else:
                    versions[table.name] = ""
                    engine.run(f"CREATE TABLE {table.name} ({table.typed_columns})")
        return versions


def select_rows(engine: Engine, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
    """Returns the rows of a query as dictionaries by column name."""
    cursor = engine.connection.execute(sql, parameters)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _write(
    engine: Engine, table: Table, rows: Iterable[Row], manifest: Manifest, *, object_bytes: int
) -> Made[Manifest]:
    columns = [column for column in table.columns if column.name != "day"]
    typed = ", ".join(f"{identifier(column.name)} {column.duckdb_type}" for column in columns)
    engine.run(f"CREATE TABLE made ({typed})")
    schema = engine.connection.table("made").to_arrow_table().schema
    engine.connection.register("given_rows", pa.Table.from_pylist(list(rows), schema))
    engine.run("INSERT INTO made BY NAME SELECT * FROM given_rows")
    engine.connection.unregister("given_rows")
    return Made(*write_parquet(engine, "SELECT * FROM made", manifest, object_bytes=object_bytes))
