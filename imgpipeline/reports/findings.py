"""What tracking and the rules found on a day: objects, zones, lines, and events with the images of some."""

from collections import Counter
from dataclasses import dataclass
from datetime import date

from imgpipeline.contracts.detection import Detection
from imgpipeline.lake.query.frames import detections_in
from imgpipeline.lake.schema.events import EVENTS, LINE_CROSSINGS, ZONE_OCCUPANCY
from imgpipeline.lake.schema.tracks import UNIQUE_OBJECTS
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.reports.figures import ByHour, DayHours, Row, read_by_hour, read_rows
from imgpipeline.reports.inputs import ReportInputs
from imgpipeline.reports.pictures import Easel, Picture, make_track_pictures

_OBJECTS = """
SELECT source, label, coalesce(whole.count, 0) AS count, hour, objects, tracks, mean_stay_s, longest_stay_s
FROM unique_objects LEFT JOIN (
    SELECT source, label, sum(new_objects)::BIGINT AS count FROM unique_totals WHERE {within} GROUP BY ALL
) AS whole USING (source, label)
WHERE {within} ORDER BY count DESC, source, label, hour
"""
_ZONES = """
SELECT source, zone, label, hour, occupied_s, most_at_once, objects
FROM zone_occupancy WHERE {within} ORDER BY source, zone, label, hour
"""
_LINES = """
SELECT source, line, direction, label, hour, crossings, objects
FROM line_crossings WHERE {within} ORDER BY source, line, direction, label, hour
"""
_MOST_EVENTS = 60
_MOST_PICTURES = 6
_RULES = """
SELECT rule, kind, source, count(*) AS count, min("timestamp") AS first, max("timestamp") AS last
FROM events WHERE {within} GROUP BY ALL ORDER BY rule, kind, source
"""
_CHOSEN = f"""
WITH numbered AS (
    SELECT *, row_number() OVER (ORDER BY "timestamp" DESC, event_id) AS number,
           row_number() OVER (PARTITION BY rule, source ORDER BY "timestamp" DESC, event_id) AS of_rule
    FROM events WHERE {{within}}
), pictured AS (
    SELECT event_id FROM numbered WHERE coalesce(image_paths[-1], '') <> ''
    ORDER BY of_rule, number LIMIT {_MOST_PICTURES}
), marked AS (
    SELECT *, number <= {_MOST_EVENTS} AS is_listed, event_id IN (FROM pictured) AS is_pictured FROM numbered
)
SELECT is_listed, is_pictured, event_id, "timestamp", rule, source, place, label, direction, reason,
       coalesce(frame_ids[-1], '') AS frame_id, coalesce(image_paths[-1], '') AS image_path
FROM marked WHERE is_listed OR is_pictured ORDER BY number DESC
"""  # noqa: S608 - numbers and names of our own
"""The latest events, and the latest ones with an image of each rule and source."""


@dataclass(frozen=True, slots=True)
class DayEvents:
    """The events of a day."""

    rules: tuple[Row, ...]
    """The events of each rule and source."""
    latest: tuple[Row, ...]
    """At most 60 events, by time."""
    pictures: tuple[tuple[Row, Picture], ...]
    """At most six events with their images and detections, by time."""

    @property
    def count(self) -> int:
        """Events of the day."""
        return sum(rule["count"] for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Findings:
    """What tracking and the rules found on a day; None where the table is not built."""

    objects: tuple[ByHour, ...] | None = None
    """Unique objects by source and label; the source and label with the most objects first. `of["count"]` are those
    first seen on the day; one that is seen in two hours counts once."""
    track_pictures: tuple[Row, ...] = ()
    zones: tuple[ByHour, ...] | None = None
    """Occupancy of the zones, by source and name."""
    lines: tuple[ByHour, ...] | None = None
    """Crossings of the lines, by source and name."""
    events: DayEvents | None = None

    @property
    def object_count(self) -> int | None:
        """Unique objects of the day, counted once per source."""
        return None if self.objects is None else sum(one.of["count"] for one in self.objects)

    @property
    def objects_by_label(self) -> tuple[tuple[str, int], ...]:
        """Labels with their objects of the day at all sources, the most frequent first."""
        counts: Counter[str] = Counter()
        for one in self.objects or ():
            counts[one.of["label"]] += one.of["count"]
        return tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    @property
    def crossing_count(self) -> int | None:
        """Crossings of all lines."""
        return None if self.lines is None else sum(int(line.total("crossings")) for line in self.lines)

    @property
    def event_count(self) -> int | None:
        """Events of all rules."""
        return None if self.events is None else self.events.count


def read_findings(
    easel: Easel, session: LakeSession, inputs: ReportInputs, clock: DayHours, *, least: float = 0.0
) -> Findings:
    """Reads the tables that are built for a day, and draws tracks and events.

    Detections with a lower confidence than `least` are not drawn.

    Raises:
        PermanentError: This machine lacks the memory or disk space.
        TransientError: The store does not answer.
        ForbiddenError: The store denies access.
    """

    def by_hour(sql: str) -> tuple[ByHour, ...]:
        return read_by_hour(session, clock, sql.format(within=clock.condition("hour")))

    is_tracked = bool(inputs.days_with(UNIQUE_OBJECTS.name))
    return Findings(
        objects=by_hour(_OBJECTS) if is_tracked else None,
        track_pictures=make_track_pictures(easel, session, clock) if is_tracked else (),
        zones=by_hour(_ZONES) if inputs.days_with(ZONE_OCCUPANCY.name) else None,
        lines=by_hour(_LINES) if inputs.days_with(LINE_CROSSINGS.name) else None,
        events=_events(easel, session, inputs.day, clock, least) if inputs.days_with(EVENTS.name) else None,
    )


def _events(easel: Easel, session: LakeSession, day: date, clock: DayHours, least: float) -> DayEvents:
    """Reads the events of a day and draws the images of some."""
    within = clock.condition('"timestamp"')
    events = read_rows(session, _CHOSEN.format(within=within))
    pictured = [event for event in events if event["is_pictured"]]
    boxes = detections_in(session, [(day, event["frame_id"]) for event in pictured])
    pictures = []
    for event in pictured:
        found = [row for row in boxes[day, event["frame_id"]] if row["confidence"] >= least]
        drawn = [Detection.of_row(row) for row in found if row["x"] is not None]
        pictures.append((event, easel.draw(event["image_path"], drawn, is_small=True)))
    return DayEvents(
        read_rows(session, _RULES.format(within=within)),
        tuple(event for event in events if event["is_listed"]),
        tuple(pictures),
    )
