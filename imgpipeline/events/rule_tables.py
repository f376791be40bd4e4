"""Builds the daily tables that rules make: `events`, `zone_occupancy`, `line_crossings` and `frame_changes`.

Each rule is evaluated again, and each zone or line counted again, only if it or one of its tables has changed; the rows
of the others are copied. Zones and lines are counted even if no rule reads them. Only sources of rules about image
changes are compared, each new frame once with the frame before it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import ClassVar

from imgpipeline.contracts.keys import event_image_key
from imgpipeline.contracts.times import find_timezone
from imgpipeline.events.configuration import ImageChangeRule, Line, Rule, Rules, Zone
from imgpipeline.events.day_of_rules import DayOfRules, Row
from imgpipeline.events.evaluate import evaluate
from imgpipeline.events.places import count_crossings, count_in_zone
from imgpipeline.events.reading import read_changes, read_frames
from imgpipeline.events.recipe import COMPARISON_VERSION, hash_of, place_recipe, rule_recipe
from imgpipeline.events.values import TRACKED, Event, FrameChange, SeenFrame
from imgpipeline.lake.days.summary_inputs import Inputs
from imgpipeline.lake.schema.events import EVENT_SCHEMA_VERSION, EVENTS, FRAME_CHANGES, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES
from imgpipeline.lake.storage.manifest import Stored
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings

_RULE_PART = "rule "
_EVALUATED = "evaluated_rules"
_OBJECT_TABLES = (FRAMES.name, DETECTIONS.name)
_PLACE_PART = "place "
_COUNTED = "counted_places"
_COMPARED = "compared_pairs"
_IN_ORDER = """
SELECT frame_id, source, "timestamp", source_image_path FROM frames
WHERE ? OR list_contains(?::VARCHAR[], source)
ORDER BY source, "timestamp", frame_number, source_kafka_topic, source_kafka_partition, source_kafka_offset, frame_id
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

    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> tuple[list[Row], dict[str, str]]:
        """Returns the comparison of each pair, and the number of new comparisons."""
        from imgpipeline.events.comparing import Comparisons  # noqa: PLC0415 - loads OpenCV

        sources = _compared_sources(rules)
        frames = [SeenFrame(*row) for row in inputs.engine.run(_IN_ORDER, [sources is None, sources or []])]
        known = [FrameChange(**row) for row in self.stored_rows(inputs.engine, stored)]
        comparisons = Comparisons(ImageReader(self.store, self.settings), known)
        rows = [asdict(change) for change in comparisons.of(frames)]
        return rows, {_COMPARED: str(comparisons.made)}


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

    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> tuple[list[Row], dict[str, str]]:
        """Returns the events of all rules by time, and a hash of the inputs of each rule."""
        parts = {f"{_RULE_PART}{rule.name}": self._part(inputs, rules, rule) for rule in rules.rule}
        known: dict[str, list[Row]] = defaultdict(list)
        for row in self.stored_rows(inputs.engine, stored):
            known[row["rule"]].append(row)
        rows: list[Row] = []
        evaluated: list[str] = []
        for rule in rules.rule:
            part = f"{_RULE_PART}{rule.name}"
            if stored and stored.manifest.made_with.get(part) == parts[part]:
                rows += known[rule.name]
            else:
                rows += self._rows_of(self._evaluate(inputs, rules, rule))
                evaluated.append(rule.name)
        rows.sort(key=lambda row: (row["timestamp"], row["event_id"]))
        return rows, {**parts, _EVALUATED: "\n".join(sorted(evaluated))}

    def _part(self, inputs: Inputs, rules: Rules, rule: Rule) -> str:
        tables: tuple[str, ...] = (FRAME_CHANGES.name,) if isinstance(rule, ImageChangeRule) else _OBJECT_TABLES
        tables += TRACKED if rule.reads == "track_points" else ()
        return hash_of(rule_recipe(rules, rule, self.settings), [inputs.versions[table] for table in tables])

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

    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> tuple[list[Row], dict[str, str]]:
        """Returns the rows by hour, and a hash of the inputs of each zone or line."""
        places = self.places(rules)
        parts = {f"{_PLACE_PART}{place.name}": hash_of(place_recipe(place), inputs.versions) for place in places}
        made_with = stored.manifest.made_with if stored else {}
        changed = [
            place
            for place in places
            if made_with.get(f"{_PLACE_PART}{place.name}") != parts[f"{_PLACE_PART}{place.name}"]
        ]
        kept = {place.name for place in places} - {place.name for place in changed}
        name = self.column
        rows = [row for row in self.stored_rows(inputs.engine, stored) if row[name] in kept] if kept else []
        by_source: dict[str, list[Zone | Line]] = defaultdict(list)
        for place in changed:
            by_source[place.source].append(place)
        for source, there in sorted(by_source.items()):
            frames = read_frames(inputs.engine.run, self.day, [source], [], 0, with_tracks=True)
            rows += [row for place in there for row in _count(place, frames)]
        rows.sort(key=lambda row: (row["hour"], row["source"], row[name], row["label"], row.get("direction", "")))
        return rows, {**parts, _COUNTED: "\n".join(sorted(place.name for place in changed))}


def _count(place: Zone | Line, frames: Sequence[SeenFrame]) -> list[Row]:
    return count_in_zone(place, frames) if isinstance(place, Zone) else count_crossings(place, frames)


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
