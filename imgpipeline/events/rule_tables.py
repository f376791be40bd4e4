"""Builds the daily tables that rules make: `events`, `zone_occupancy`, `line_crossings` and `frame_changes`.

Zones and lines are counted even if no rule reads them. Only sources of rules about image changes are compared, each new
frame once with the frame before it.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import ValidationError

from imgpipeline.contracts.keys import event_image_key
from imgpipeline.contracts.times import find_timezone
from imgpipeline.events.configuration import ImageChangeRule, Line, Rule, Rules, Zone
from imgpipeline.events.evaluate import evaluate
from imgpipeline.events.places import count_crossings, count_in_zone
from imgpipeline.events.reading import read_changes, read_frames, select_rows
from imgpipeline.events.recipe import COMPARISON_VERSION, hash_of, place_recipe, rule_recipe
from imgpipeline.events.values import TRACKED, Event, FrameChange, SeenFrame
from imgpipeline.lake.days.derived import Derived, Made, Origin, Start
from imgpipeline.lake.days.summary_inputs import Inputs, find_inputs, open_inputs, stored_key
from imgpipeline.lake.schema.events import EVENT_SCHEMA_VERSION, EVENTS, FRAME_CHANGES, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES, Table
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import Engine, all_rows, identifier
from imgpipeline.lake.storage.manifest import Manifest, Stored, read_stored, write_parquet
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings

Row = dict[str, Any]
"""One row by the names of its columns, without `day`."""
RULES = "rules"
"""Key of the rules in `Manifest.made_with`; the value is JSON."""
_OBJECT_TABLES = (FRAMES.name, DETECTIONS.name)
_IN_ORDER = """
SELECT frame_id, source, "timestamp", source_image_path FROM frames
WHERE ? OR list_contains(?::VARCHAR[], source)
ORDER BY source, "timestamp", frame_number, source_kafka_topic, source_kafka_partition, source_kafka_offset, frame_id
"""


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
        return Origin({**versions, **self.other_inputs()}, self.recipe(rules))

    def make(self, start: Start[Manifest], /) -> dict[str, Made[Manifest]]:
        """Makes the table."""
        rules = self.rules_of(start.stored)
        tables, tracks = self.inputs(rules), self.track_inputs(rules)
        name, memory, others = self.table.name, self.settings.duckdb_memory, self.other_inputs()
        with open_inputs(self.store, tables, self.day, optional=tracks, wanted_by=name, memory=memory) as inputs:
            for table in TRACK_TABLES:
                if table.name in tracks and table.name not in inputs.versions:
                    inputs.engine.run(f"CREATE TABLE {table.name} ({table.typed_columns})")
            rows = self.rows(inputs, rules, None if start.force else start.stored[self.key])
            manifest = Manifest(
                table=self.table.name,
                day=self.day,
                made_by=self.recipe(rules),
                ends=next(iter(inputs.manifests.values())).ends,
                built_at=self.now,
                made_of={**dict.fromkeys(tracks, ""), **inputs.versions, **others},
                made_with={RULES: rules.model_dump_json(exclude_defaults=True)},
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

    def other_inputs(self) -> Mapping[str, str]:
        """Returns the versions of inputs that are not tables; if they change meanwhile, the result is stale."""
        return {}

    @abstractmethod
    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of the code version and of the rules that determine the rows."""

    @abstractmethod
    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> list[Row]:
        """Returns all rows in order.

        Rows of the stored table may be copied; without one, all rows are made again.
        """


class DayFrameChanges(DayOfRules):
    """The comparisons of consecutive frames of a day."""

    table = FRAME_CHANGES

    def inputs(self, _rules: Rules, /) -> tuple[str, ...]:
        """Returns its only table, `frames`; images never change."""
        return (FRAMES.name,)

    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of the compared sources and of the version of the comparison."""
        return hash_of(EVENT_SCHEMA_VERSION, COMPARISON_VERSION, _compared_sources(rules))

    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> list[Row]:
        """Returns the comparison of each pair."""
        from imgpipeline.events.comparing import Comparisons  # noqa: PLC0415 - loads OpenCV

        sources = _compared_sources(rules)
        frames = [SeenFrame(*row) for row in inputs.engine.run(_IN_ORDER, [sources is None, sources or []])]
        comparisons = Comparisons(ImageReader(self.store, self.settings), self._known(inputs.engine, stored))
        return [asdict(change) for change in comparisons.of(frames)]

    def _known(self, engine: Engine, stored: Stored | None) -> list[FrameChange]:
        """Returns the comparisons in the stored table; none if it has been replaced since it was read."""
        path = engine.folder / f"{self.table.name}-stored.parquet"
        with open_cache(self.store) as (_, cache):
            if stored is None or cache.link(self.key, stored.e_tag, path) != stored.e_tag:
                return []
        return [FrameChange(**row) for row in select_rows(engine, all_rows(path))]


def _compared_sources(rules: Rules) -> list[str] | None:
    """Returns the sources of the rules about image changes, sorted; None: all."""
    wanted = [rule.sources for rule in rules.rule if isinstance(rule, ImageChangeRule)]
    return None if any(not sources for sources in wanted) else sorted({name for several in wanted for name in several})


class DayEvents(DayOfRules):
    """The events of a day. The difference images of image changes are stored under the ids of their events."""

    table = EVENTS

    def inputs(self, rules: Rules, /) -> tuple[str, ...]:
        """Returns the tables that the rules read; without rules `frames`, whose ledger ends the table needs."""
        changes = (FRAME_CHANGES.name,) if any(isinstance(rule, ImageChangeRule) for rule in rules.rule) else ()
        is_about_objects = any(not isinstance(rule, ImageChangeRule) for rule in rules.rule)
        return (*(_OBJECT_TABLES if is_about_objects else (FRAMES.name,)), *changes)

    def track_inputs(self, rules: Rules, /) -> tuple[str, ...]:
        """Returns the tables of tracks, if a rule follows tracked objects."""
        return TRACKED if any(rule.reads == "track_points" for rule in rules.rule) else ()

    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of all rules with their zones and lines; zones that no rule reads are not part of it."""
        return hash_of(
            EVENT_SCHEMA_VERSION, {rule.name: rule_recipe(rules, rule, self.settings) for rule in rules.rule}
        )

    def rows(self, inputs: Inputs, rules: Rules, _stored: Stored | None, /) -> list[Row]:
        """Returns the events of all rules by time."""
        rows = [row for rule in rules.rule for row in self._rows_of(self._evaluate(inputs, rules, rule))]
        return sorted(rows, key=lambda row: (row["timestamp"], row["event_id"]))

    def _evaluate(self, inputs: Inputs, rules: Rules, rule: Rule) -> list[Event]:
        zone = find_timezone(self.settings.timezone)
        if isinstance(rule, ImageChangeRule):
            return evaluate(rules, rule, zone, changes=read_changes(inputs.engine))
        chosen = (rules.sources_of(rule), rule.labels, rule.min_confidence)
        frames = read_frames(inputs.engine.run, self.day, *chosen, with_tracks=rule.reads == "track_points")
        return evaluate(rules, rule, zone, frames=frames)

    def _rows_of(self, events: Iterable[Event]) -> list[Row]:
        """Returns the rows of events, and stores the difference image of each image change."""
        names = [each.name for each in fields(Event)]
        return [
            {
                **{name: getattr(event, name) for name in names},
                "event_id": event.event_id,
                "difference_image": store_difference(self.store, self.settings, event),
            }
            for event in events
        ]


class _DayPlaces(DayOfRules):
    column: ClassVar[str]
    """Name of the column with the zone or line, and of the list in the rules."""

    def places(self, rules: Rules) -> Sequence[Zone | Line]:
        """Returns the zones or lines to count at."""
        found: Sequence[Zone | Line] = getattr(rules, self.column)
        return found

    def inputs(self, _rules: Rules, /) -> tuple[str, ...]:
        """Returns the names of the stored tables that it reads."""
        return _OBJECT_TABLES

    def track_inputs(self, rules: Rules, /) -> tuple[str, ...]:
        """Returns the tables of tracks, unless there is nothing to count."""
        return TRACKED if self.places(rules) else ()

    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of all zones, or of all lines."""
        return hash_of(EVENT_SCHEMA_VERSION, {place.name: place_recipe(place) for place in self.places(rules)})

    def rows(self, inputs: Inputs, rules: Rules, _stored: Stored | None, /) -> list[Row]:
        """Returns the rows by hour."""
        by_source: dict[str, list[Zone | Line]] = defaultdict(list)
        for place in self.places(rules):
            by_source[place.source].append(place)
        rows: list[Row] = []
        for source, there in sorted(by_source.items()):
            frames = read_frames(inputs.engine.run, self.day, [source], [], 0, with_tracks=True)
            for place in there:
                rows += count_in_zone(place, frames) if isinstance(place, Zone) else count_crossings(place, frames)
        return sorted(
            rows, key=lambda row: (row["hour"], row["source"], row[self.column], row["label"], row.get("direction", ""))
        )


class DayZoneOccupancy(_DayPlaces):
    """The table `zone_occupancy` of a day."""

    table = ZONE_OCCUPANCY
    column = "zone"


class DayLineCrossings(_DayPlaces):
    """The table `line_crossings` of a day."""

    table = LINE_CROSSINGS
    column = "line"


ENTRIES: Mapping[str, type[DayOfRules]] = {
    entry.table.name: entry for entry in (DayFrameChanges, DayEvents, DayZoneOccupancy, DayLineCrossings)
}
"""The derived object of each table."""


def store_difference(store: ObjectStore, settings: Settings, event: Event) -> str | None:
    """Stores the difference image of an image change under its event id, once, and returns the key.

    Returns:
        The key; None for other events, and if an image is no longer available.

    Raises:
        TransientError: The store does not answer.
        ForbiddenError: The store refuses access.
    """
    if event.kind != "image_change" or event.value is None:
        return None
    from imgpipeline.events.comparing import draw_difference  # noqa: PLC0415 - loads OpenCV

    key = event_image_key(event.timestamp.date(), event.event_id, "difference")
    if store.head(key) is None:
        previous, path = event.image_paths
        jpeg = draw_difference(ImageReader(store, settings), path, previous)
        if jpeg is None:
            return None
        store.put(key, jpeg)
    return key


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
