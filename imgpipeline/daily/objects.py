"""The derived objects of a day, each after those that it reads.

A new derived table needs a subclass of `Derived`, an entry in `OBJECTS`, and for the UI a description in
`defs.assets.daily`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.schema.events import EVENTS, FRAME_CHANGES, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES, DETECTIONS, FRAMES, NOTICES
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES, TRACK_TABLES
from imgpipeline.settings import Settings

TABLES = "day_tables"
TRACKS = "tracks"
REPORT = "daily_report"
COMPARISON = MODEL_COMPARISON.name


@dataclass(frozen=True, slots=True)
class DayObject:
    """One derived object of a day."""

    name: str
    tables: tuple[str, ...]
    """Names of its tables, which are also the names of their assets; for the report its own name."""
    needs: tuple[str, ...] = ()
    """Objects without which it cannot be built."""
    follows: tuple[str, ...] = ()
    """Further objects whose new versions make it stale; it is built without them as well."""
    is_always_built: bool = True
    """Whether it belongs to every day. Otherwise to those whose tables were built since the feature exists."""
    stored: tuple[str, ...] = ()
    """Names of its stored tables, if there are more than in `tables`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The objects whose new versions make it stale."""
        return (*self.needs, *self.follows)


def _owner(table: str) -> str:
    return TABLES if table in {*DAY_TABLE_NAMES, "dead_letters"} else table


def _owners(tables: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_owner(table) for table in tables))


_SUMMARIES = tuple(DayObject(name, (name,), needs=_owners(summary.inputs)) for name, summary in SUMMARIES.items())
_RULES = (
    DayObject(FRAME_CHANGES.name, (FRAME_CHANGES.name,), needs=(TABLES,), is_always_built=False),
    DayObject(
        EVENTS.name, (EVENTS.name,), needs=(TABLES,), follows=(TRACKS, FRAME_CHANGES.name), is_always_built=False
    ),
    *(
        DayObject(table.name, (table.name,), needs=(TABLES,), follows=(TRACKS,), is_always_built=False)
        for table in (ZONE_OCCUPANCY, LINE_CROSSINGS)
    ),
)
RULE_OBJECTS = tuple(each.name for each in _RULES)
"""The objects that exist only if the setting `rules_file` is set."""
OBJECTS: Mapping[str, DayObject] = {
    each.name: each
    for each in (
        DayObject(TABLES, (FRAMES.name, DETECTIONS.name, "dead_letters", NOTICES.name), stored=DAY_TABLE_NAMES),
        *_SUMMARIES,
        DayObject(
            TRACKS,
            tuple(table.name for table in TRACK_TABLES),
            needs=(TABLES,),
            is_always_built=False,
            stored=tuple(table.name for table in STORED_TRACK_TABLES),
        ),
        *_RULES,
        DayObject(
            REPORT,
            (REPORT,),
            needs=(TABLES,),
            follows=(*SUMMARIES, TRACKS, EVENTS.name, ZONE_OCCUPANCY.name, LINE_CROSSINGS.name),
        ),
        DayObject(COMPARISON, (COMPARISON,), needs=(TABLES,), is_always_built=False),
    )
}
"""All objects of a day by name, each after those that it reads."""


def objects_of(settings: Settings) -> dict[str, DayObject]:
    """Returns the objects of this deployment: without rules, none that rules make."""
    return {name: each for name, each in OBJECTS.items() if settings.rules_file or name not in RULE_OBJECTS}
