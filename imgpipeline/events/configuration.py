"""The file `rules.toml`: zones and lines in the images of a source, and rules that find events.

[[zone]]
name = "yard"
source = "gate"
points = [[0.1, 0.5], [0.9, 0.5], [0.9, 1.0], [0.1, 1.0]]

[[rule]]
name = "crowded"
kind = "count"
zone = "yard"
labels = ["person"]
above = 3
seconds = 10
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from imgpipeline.contracts.keys import rules_key
from imgpipeline.contracts.times import HOURS_PATTERN
from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.toml_file import TomlFile, parse_toml, read_toml

PAGE = "docs/events.md"
"""The page that describes the fields."""
STORED = "store"
"""The value of the setting `rules_file` for the rules in the object store."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^\S(.*\S)?$")]
TargetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
Point = tuple[float, float]
Pixels = Annotated[int, Field(ge=1, le=100_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Place(_Strict):
    name: Name
    source: Name
    size: tuple[Pixels, Pixels] | None = None
    """Width and height of the image, if the points are in pixels; None: the points are fractions of the image."""
    points: tuple[Point, ...]

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields the invalid fields, each with the reason."""
        width, height = self.size or (1, 1)
        unit = f"pixels of an image of {width}x{height}" if self.size else "fractions of the image, 0 to 1"
        hint = "" if self.size else "; for pixels, add size = [width, height]"
        for x, y in self.points:
            if not (0 <= x <= width and 0 <= y <= height):
                yield "points", f"the point [{x:g}, {y:g}] is outside the image; expected {unit}{hint}"

    @property
    def fractions(self) -> tuple[Point, ...]:
        """The points as fractions of the image's width and height."""
        width, height = self.size or (1, 1)
        return tuple((x / width, y / height) for x, y in self.points)


class Zone(_Place):
    """`[[zone]]`: a polygon in the images of a source."""

    points: Annotated[tuple[Point, ...], Field(min_length=3, max_length=1000)]


class Line(_Place):
    """`[[line]]`: a line from one point to another in the images of a source.

    `forward` is the name of the direction from the left side of the line to its right side, as seen from the first
    point. Objects that move down cross a line that is drawn from left to right forward.
    """

    points: Annotated[tuple[Point, ...], Field(min_length=2, max_length=2)]
    forward: Name = "forward"
    backward: Name = "backward"
    margin: float = Field(0.01, ge=0, le=0.5)
    """Minimum distance of the foot point from the line, as a fraction of the image's height."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields the invalid fields, each with the reason."""
        yield from super().problems()
        if self.points[0] == self.points[1]:
            yield "points", "both points are the same"
        if self.forward == self.backward:
            yield "backward", f"both directions have the name {self.forward!r}"


class _Rule(_Strict):
    reads: ClassVar[str] = "detections"
    name: Name
    sources: tuple[Name, ...] = ()
    """Sources of the rule; empty: all, or the source of its zone or line."""
    hours: str | None = Field(None, pattern=HOURS_PATTERN)
    """Hours of the events, in the time zone of the settings."""
    cooldown_s: Seconds = 0.0
    """Time after an event during which the rule finds no other event of the same source."""
    notify: tuple[TargetName, ...] = ()
    """Names of the targets that get its alerts; empty: all targets."""

    @property
    def places(self) -> tuple[str, ...]:
        """Name of the zone or line that the rule reads, if any."""
        return tuple(name for field in ("zone", "line") if (name := getattr(self, field, None)))


class _ObjectRule(_Rule):
    labels: tuple[Name, ...] = ()
    """Labels of the objects; empty: all."""
    min_confidence: float = Field(0.0, ge=0, le=1)
    longest_gap_s: Seconds = 60.0
    """A longer gap between two frames ends the event."""
    bridge_s: Seconds = 0.0
    """An interruption up to this long does not end the event, since detectors miss objects."""


class ZoneOccupancyRule(_ObjectRule):
    """An object is in the zone."""

    kind: Literal["zone_occupancy"]
    zone: Name


class CountRule(_ObjectRule):
    """More than `above` objects at once, for `seconds`."""

    kind: Literal["count"]
    above: int = Field(ge=0)
    seconds: Seconds = 0.0
    zone: Name | None = None


class AbsenceRule(_ObjectRule):
    """No object for `seconds`, while frames arrive."""

    kind: Literal["absence"]
    seconds: Seconds = Field(gt=0)
    zone: Name | None = None


class DwellTimeRule(_ObjectRule):
    """A tracked object stays in the zone for `seconds`."""

    reads: ClassVar[str] = "track_points"
    kind: Literal["dwell_time"]
    zone: Name
    seconds: Seconds = Field(gt=0)


class LineCrossingRule(_ObjectRule):
    """A tracked object crosses the line."""

    reads: ClassVar[str] = "track_points"
    kind: Literal["line_crossing"]
    line: Name
    direction: Name | None = None
    """Name of one direction of the line; None: both."""


class ImageChangeRule(_Rule):
    """The image differs from the previous one."""

    reads: ClassVar[str] = "frame_changes"
    kind: Literal["image_change"]
    threshold: float = Field(0.0, ge=0)
    """Minimum L2 norm of the difference, exclusive; 0: any pixel differs."""


Rule = ZoneOccupancyRule | CountRule | AbsenceRule | DwellTimeRule | LineCrossingRule | ImageChangeRule
ObjectRule = ZoneOccupancyRule | CountRule | AbsenceRule | DwellTimeRule | LineCrossingRule


class Rules(_Strict):
    """The whole file; empty without a file."""

    zone: tuple[Zone, ...] = ()
    line: tuple[Line, ...] = ()
    rule: tuple[Annotated[Rule, Field(discriminator="kind")], ...] = ()

    @property
    def places(self) -> tuple[Zone | Line, ...]:
        """All zones and lines."""
        return (*self.zone, *self.line)

    def problems(self) -> Iterator[tuple[tuple[str, int, str], str]]:
        """Yields the invalid fields across all entries: the path of each field, and the reason."""
        for table, entries in (("zone", self.zone), ("line", self.line), ("rule", self.rule)):
            names = [entry.name for entry in entries]
            for number, name in enumerate(names):
                if name in names[:number]:
                    yield (table, number, "name"), f"another {table} has this name"
        for table, places in (("zone", self.zone), ("line", self.line)):
            for number, place in enumerate(places):
                for field, message in place.problems():
                    yield (table, number, field), message
        for number, rule in enumerate(self.rule):
            for field, message in self._problems_of(rule):
                yield ("rule", number, field), message

    def _problems_of(self, rule: Rule) -> Iterator[tuple[str, str]]:
        """Yields the invalid fields of a rule that refer to a zone, line or direction."""
        place = self.place_of(rule)
        if place is None:
            kind, known = ("line", self.line) if isinstance(rule, LineCrossingRule) else ("zone", self.zone)
            names = ", ".join(each.name for each in known) or "none"
            for name in rule.places:
                yield kind, f"there is no {kind} {name!r}; the file has {names}"
        elif rule.sources:
            yield "sources", f"{place.name!r} belongs to {place.source!r}; remove this field"
        if isinstance(rule, LineCrossingRule) and isinstance(place, Line):
            directions = (place.forward, place.backward)
            if rule.direction is not None and rule.direction not in directions:
                yield "direction", f"there is no {rule.direction!r}; the line has {directions[0]} and {directions[1]}"

    def place_of(self, rule: Rule) -> Zone | Line | None:
        """Returns the zone or line that a rule reads, or None."""
        places: Sequence[Zone | Line] = self.line if isinstance(rule, LineCrossingRule) else self.zone
        return next((place for place in places if place.name in rule.places), None)

    def sources_of(self, rule: Rule) -> tuple[str, ...]:
        """Returns the sources of a rule; empty: all."""
        place = self.place_of(rule)
        return (place.source,) if place else rule.sources


def load_rules(path: Path) -> Rules:
    """Reads `rules.toml`.

    Raises:
        ConfigurationError: The file is missing or invalid; the message names line, entry and field.
    """
    return _validated(read_toml(path, page=PAGE))


def parse_rules(text: str, *, name: str) -> Rules:
    """Reads the text of a `rules.toml`, whose origin is `name` in messages; raises the same errors as `load_rules`."""
    return _validated(parse_toml(text, name=name, page=PAGE))


def read_rules(settings: Settings, store: ObjectStore) -> Rules:
    """Returns the rules in the file or object of the setting `rules_file`; no rules if it is unset.

    Raises:
        ConfigurationError: The file or object is missing or invalid.
    """
    if settings.rules_file is None:
        return Rules()
    if settings.rules_file != STORED:
        return load_rules(Path(settings.rules_file))
    where = f"{store.url}/{rules_key()}"
    try:
        data = store.get(rules_key())
    except ObjectMissingError:
        raise ConfigurationError(f"{where} does not exist.", next_step="run `imgpipeline rules put FILE`") from None
    try:
        return parse_rules(data.decode(), name=where)
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where} is not UTF-8: {error}.", next_step="store it again: `rules put`") from None


def _validated(file: TomlFile) -> Rules:
    rules = file.validate(Rules)
    problems = list(rules.problems())
    if problems:
        raise file.refused(problems)
    return rules
