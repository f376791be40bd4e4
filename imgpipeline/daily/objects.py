"""The derived objects of a day, each after those that it reads.

A new derived table needs a subclass of `Derived`, which `daily.build.derived_of` makes, an entry in `OBJECTS`, and for
the UI a description in `defs.assets.daily`. The code location imports this module, so it loads no DuckDB and no OpenCV.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from imgpipeline.events.recipe import accuracy_recipe, events_recipe
from imgpipeline.lake.days.day_rows import RECIPE
from imgpipeline.lake.days.summaries import SUMMARIES, recipe
from imgpipeline.lake.schema.accuracy import ACCURACY
from imgpipeline.lake.schema.events import EVENTS, FRAME_CHANGES, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES
from imgpipeline.lake.schema.tracks import STORED_TRACK_TABLES, TRACK_TABLES
from imgpipeline.redetect.comparison import comparison_recipe
from imgpipeline.reports.inputs import report_recipe
from imgpipeline.settings import Settings
from imgpipeline.tracking.manifest import tracks_recipe

TABLES = "day_tables"
TRACKS = "tracks"
REPORT = "daily_report"
COMPARISON = MODEL_COMPARISON.name
MEASURED = ACCURACY.name
_SEEN = ("frames", "detections")
_TRACKED = (*_SEEN, "tracks", "track_points")


@dataclass(frozen=True, slots=True)
class DayObject:
    """One derived object of a day."""

    name: str
    tables: tuple[str, ...]
    """Names of its tables, which are also the names of their assets; for the report its own name."""
    recipe: Callable[[Settings], str]
    """Returns the code version of its assets, which does not cover the rules."""
    reads: tuple[str, ...] = ()
    """The assets that are shown as its inputs."""
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


def _summary(name: str) -> DayObject:
    reads = SUMMARIES[name].inputs
    needs = dict.fromkeys(TABLES if table in DAY_TABLE_NAMES else table for table in reads)
    return DayObject(name, (name,), partial(recipe, name), reads, tuple(needs))


def _of_rules(name: str, reads: tuple[str, ...], *follows: str) -> DayObject:
    return DayObject(name, (name,), partial(events_recipe, name), reads, (TABLES,), follows, is_always_built=False)


_RULES = (
    _of_rules(FRAME_CHANGES.name, ("frames",)),
    _of_rules(EVENTS.name, (*_TRACKED, FRAME_CHANGES.name), TRACKS, FRAME_CHANGES.name),
    _of_rules(ZONE_OCCUPANCY.name, _TRACKED, TRACKS),
    _of_rules(LINE_CROSSINGS.name, _TRACKED, TRACKS),
)
RULE_OBJECTS = tuple(each.name for each in _RULES)
"""The objects that exist only if the setting `rules_file` is set."""
OBJECTS: Mapping[str, DayObject] = {
    each.name: each
    for each in (
        DayObject(TABLES, DAY_TABLE_NAMES, lambda _: RECIPE),
        *map(_summary, SUMMARIES),
        DayObject(
            TRACKS,
            tuple(table.name for table in TRACK_TABLES),
            tracks_recipe,
            reads=("frames", "detections", "notices"),
            needs=(TABLES,),
            is_always_built=False,
            stored=tuple(table.name for table in STORED_TRACK_TABLES),
        ),
        *_RULES,
        # Only plans of lines read tracks.
        DayObject(MEASURED, (MEASURED,), accuracy_recipe, _SEEN, (TABLES,), (TRACKS,), is_always_built=False),
        DayObject(
            REPORT,
            (REPORT,),
            report_recipe,
            # It shows tracks and events as well, but Dagster would call it stale on every day without them.
            reads=(*DAY_TABLE_NAMES, *(name for name in SUMMARIES if name != "label_timestamps")),
            needs=(TABLES,),
            follows=(*SUMMARIES, TRACKS, EVENTS.name, ZONE_OCCUPANCY.name, LINE_CROSSINGS.name, MEASURED),
        ),
        DayObject(
            COMPARISON,
            (COMPARISON,),
            lambda _: comparison_recipe(),
            reads=("detections",),
            needs=(TABLES,),
            is_always_built=False,
        ),
    )
}
"""All objects of a day by name, each after those that it reads."""
OBJECT_OF: Mapping[str, str] = {table: each.name for each in OBJECTS.values() for table in each.tables}
"""The object of each table."""


def objects_of(settings: Settings) -> dict[str, DayObject]:
    """Returns the objects of this deployment: without rules, none that rules make."""
    return {name: each for name, each in OBJECTS.items() if settings.rules_file or name not in RULE_OBJECTS}
