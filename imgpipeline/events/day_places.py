"""The summaries `zone_occupancy` and `line_crossings`: what stood in each zone and crossed each line, by hour.

A zone is counted only if it or one of the tables has changed; the rows of the others are taken over. Zones and lines
are counted whether or not a rule reads them.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence

from imgpipeline.events.configuration import Line, Rules, Zone
from imgpipeline.events.day_of_rules import DayOfRules, Row, hash_of
from imgpipeline.events.places import count_crossings, count_in_zone
from imgpipeline.events.recipe import COUNTING_VERSION
from imgpipeline.events.seen_frames import TRACKED, read_frames
from imgpipeline.events.values import SeenFrame
from imgpipeline.lake.build.summary_inputs import Inputs
from imgpipeline.lake.schema import DETECTIONS, FRAMES, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.events import EVENT_SCHEMA_VERSION
from imgpipeline.lake.storage.manifest import Stored

_PART = "place "
_COUNTED = "counted_places"


class _DayPlaces(DayOfRules):
    @abstractmethod
    def places(self, rules: Rules, /) -> Sequence[Zone | Line]:
        """Returns the zones or lines that it counts at."""

    @abstractmethod
    def count(self, place: Zone | Line, frames: Sequence[SeenFrame], /) -> list[Row]:
        """Returns the rows of one zone or line."""

    def inputs(self, _rules: Rules, /) -> tuple[str, ...]:
        """Returns the tables that it reads."""
        return FRAMES.name, DETECTIONS.name

    def track_inputs(self, rules: Rules, /) -> tuple[str, ...]:
        """Returns the tables of tracks, unless there is nothing to count."""
        return TRACKED if self.places(rules) else ()

    def recipe(self, rules: Rules, /) -> str:
        """Returns the hash of all zones, or of all lines."""
        return hash_of(EVENT_SCHEMA_VERSION, {place.name: _recipe(place) for place in self.places(rules)})

    def rows(self, inputs: Inputs, rules: Rules, stored: Stored | None, /) -> tuple[list[Row], dict[str, str]]:
        """Returns the rows by hour, and a hash for each zone or line of what made its rows."""
        places = self.places(rules)
        parts = {f"{_PART}{place.name}": hash_of(_recipe(place), inputs.versions) for place in places}
        made_with = stored.manifest.made_with if stored else {}
        changed = [place for place in places if made_with.get(f"{_PART}{place.name}") != parts[f"{_PART}{place.name}"]]
        kept = {place.name for place in places} - {place.name for place in changed}
        name = self.place_column
        rows = [row for row in self.stored_rows(inputs.engine, stored) if row[name] in kept] if kept else []
        by_source: dict[str, list[Zone | Line]] = defaultdict(list)
        for place in changed:
            by_source[place.source].append(place)
        for source, there in sorted(by_source.items()):
            frames = read_frames(inputs.engine, [source], [], 0, with_tracks=True)
            rows += [row for place in there for row in self.count(place, frames)]
        rows.sort(key=lambda row: (row["hour"], row["source"], row[name], row["label"], row.get("direction", "")))
        return rows, {**parts, _COUNTED: "\n".join(sorted(place.name for place in changed))}

    @property
    def place_column(self) -> str:
        """The column with the name of the zone or line."""
        return "zone" if self.table is ZONE_OCCUPANCY else "line"


class DayZoneOccupancy(_DayPlaces):
    """A day's `zone_occupancy`, as an entry of the contract."""

    table = ZONE_OCCUPANCY

    def places(self, rules: Rules, /) -> Sequence[Zone]:
        """Returns all zones."""
        return rules.zone

    def count(self, place: Zone | Line, frames: Sequence[SeenFrame], /) -> list[Row]:
        """Returns the rows of one zone."""
        return count_in_zone(place, frames) if isinstance(place, Zone) else []


class DayLineCrossings(_DayPlaces):
    """A day's `line_crossings`, as an entry of the contract."""

    table = LINE_CROSSINGS

    def places(self, rules: Rules, /) -> Sequence[Line]:
        """Returns all lines."""
        return rules.line

    def count(self, place: Zone | Line, frames: Sequence[SeenFrame], /) -> list[Row]:
        """Returns the rows of one line."""
        return count_crossings(place, frames) if isinstance(place, Line) else []


def _recipe(place: Zone | Line) -> str:
    return hash_of(COUNTING_VERSION, place.model_dump())
