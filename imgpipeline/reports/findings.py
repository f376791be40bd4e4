"""What tracking and the rules found on a day; None stands for a table that is not built for the day."""

from collections import Counter
from dataclasses import dataclass

from imgpipeline.lake.schema import EVENTS, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.tracks import UNIQUE_OBJECTS
from imgpipeline.reports.easel import Easel
from imgpipeline.reports.hours import DayHours
from imgpipeline.reports.inputs import ReportInputs
from imgpipeline.reports.seen_objects import SourceObjects, read_objects
from imgpipeline.reports.shown_events import DayEvents, read_events
from imgpipeline.reports.stored_day import DayQueries
from imgpipeline.reports.track_pictures import TrackPicture, make_track_pictures
from imgpipeline.reports.zones_and_lines import LineFigures, ZoneFigures, read_lines, read_zones


@dataclass(frozen=True, slots=True)
class Findings:
    """What tracking and the rules found on a day."""

    objects: tuple[SourceObjects, ...] | None = None
    """Different objects by source and label, the most first."""
    track_pictures: tuple[TrackPicture, ...] = ()
    """The longest tracks, drawn on images."""
    zones: tuple[ZoneFigures, ...] | None = None
    """What stood in the zones."""
    lines: tuple[LineFigures, ...] | None = None
    """What crossed the lines."""
    events: DayEvents | None = None
    """What the rules found."""

    @property
    def object_count(self) -> int | None:
        """Different objects of the day, each counted at each source that saw it."""
        return None if self.objects is None else sum(one.objects for one in self.objects)

    @property
    def objects_by_label(self) -> tuple[tuple[str, int], ...]:
        """Labels with their objects of the day at all sources, the most first."""
        counts: Counter[str] = Counter()
        for one in self.objects or ():
            counts[one.label] += one.objects
        return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def crossing_count(self) -> int | None:
        """Crossings of all lines."""
        return None if self.lines is None else sum(line.crossings for line in self.lines)

    @property
    def event_count(self) -> int | None:
        """Events of all rules."""
        return None if self.events is None else self.events.count


def read_findings(
    easel: Easel, session: DayQueries, inputs: ReportInputs, clock: DayHours, *, least: float = 0.0
) -> Findings:
    """Reads the tables that are built for a day, and draws tracks and events.

    Args:
        easel: Draws them.
        session: Opened for the day.
        inputs: Say which tables are built.
        clock: The hours of the day.
        least: Detections with a lower confidence are not drawn.

    Raises:
        PermanentError: Memory or disk of this machine do not suffice.
        TransientError: The store does not answer.
        ForbiddenError: The store refuses everything.
    """
    is_tracked = bool(inputs.days_with(UNIQUE_OBJECTS.name))
    return Findings(
        objects=read_objects(session, clock) if is_tracked else None,
        track_pictures=make_track_pictures(easel, session, clock) if is_tracked else (),
        zones=read_zones(session, clock) if inputs.days_with(ZONE_OCCUPANCY.name) else None,
        lines=read_lines(session, clock) if inputs.days_with(LINE_CROSSINGS.name) else None,
        events=read_events(easel, session, clock, least=least) if inputs.days_with(EVENTS.name) else None,
    )
