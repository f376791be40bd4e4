"""The events of a day: how many each rule found, the latest ones, and images of some."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from imgpipeline.contracts.detection import Detection
from imgpipeline.lake.storage.engine import quoted
from imgpipeline.reports.figures import DayHours
from imgpipeline.reports.pictures import Easel, Picture
from imgpipeline.reports.stored_day import DayQueries

_MOST_EVENTS = 60
_MOST_PICTURES = 6
_RULES = """
SELECT rule, kind, source, count(*), min("timestamp"), max("timestamp")
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
SELECT is_listed, is_pictured, event_id, "timestamp", rule, source, coalesce(place, ''), coalesce(label, ''),
       coalesce(direction, ''), reason, coalesce(frame_ids[-1], ''), coalesce(image_paths[-1], '')
FROM marked WHERE is_listed OR is_pictured ORDER BY number DESC
"""  # noqa: S608 - numbers and names of our own
"""The latest events, and the latest ones with an image of each rule and source."""
_BOXES = """
SELECT frame_id, label, class_id, confidence, x, y, width, height FROM detections
WHERE frame_id IN ({frames}) AND confidence >= {least} AND x IS NOT NULL ORDER BY frame_id, detection_number
"""


@dataclass(frozen=True, slots=True)
class RuleEvents:
    """The events of one rule at one source."""

    rule: str
    kind: str
    """Kind of the rule, such as `line_crossing`."""
    source: str
    """The camera, video or folder."""
    count: int
    """Events of the day."""
    first: datetime
    """Time of the first one, UTC."""
    last: datetime
    """Time of the last one, UTC."""


@dataclass(frozen=True, slots=True)
class ShownEvent:
    """One event that the page lists or shows."""

    event_id: str
    timestamp: datetime
    """Time of the frame that met the rule, UTC."""
    rule: str
    source: str
    """The camera, video or folder."""
    place: str
    """The zone or line; empty without one."""
    label: str
    """Label of the objects; empty for several labels or none."""
    direction: str
    """Direction in which a line was crossed; empty without a line."""
    reason: str
    """What happened, as a sentence."""
    frame_id: str
    """The frame that met the rule."""
    image_path: str
    """Where its image is stored; empty without one."""


@dataclass(frozen=True, slots=True)
class DayEvents:
    """The events of a day."""

    rules: tuple[RuleEvents, ...]
    """Numbers of events by rule and source."""
    latest: tuple[ShownEvent, ...]
    """At most 60 events, by time."""
    pictures: tuple[tuple[ShownEvent, Picture], ...]
    """At most six events with their images and detections, by time."""

    @property
    def count(self) -> int:
        """Events of the day."""
        return sum(rule.count for rule in self.rules)


def read_events(easel: Easel, session: DayQueries, clock: DayHours, *, least: float = 0.0) -> DayEvents:
    """Reads the events of a day and draws the images of some.

    Args:
        easel: Draws on the images.
        session: The day, opened for queries.
        clock: The hours of the day.
        least: Detections with a lower confidence are not drawn.

    Raises:
        PermanentError: This machine lacks the memory or disk space.
        TransientError: The store does not answer.
        ForbiddenError: The store denies access.
    """
    within = clock.condition('"timestamp"')
    rules = tuple(RuleEvents(*row) for row in session.query(_RULES.format(within=within)).rows)
    rows = [(row[0], row[1], ShownEvent(*row[2:])) for row in session.query(_CHOSEN.format(within=within)).rows]
    pictured = [event for _, is_pictured, event in rows if is_pictured]
    boxes = _boxes(session, {event.frame_id for event in pictured}, least)
    return DayEvents(
        rules,
        tuple(event for is_listed, _, event in rows if is_listed),
        tuple(
            (event, easel.draw(event.image_path, boxes.get(event.frame_id, ()), is_small=True)) for event in pictured
        ),
    )


def _boxes(session: DayQueries, frames: Iterable[str], least: float) -> dict[str, list[Detection]]:
    names = ", ".join(quoted(name) for name in sorted(frames))
    if not names:
        return {}
    found: dict[str, list[Detection]] = defaultdict(list)
    for frame_id, label, class_id, confidence, *box in session.query(
        _BOXES.format(frames=names, least=float(least))
    ).rows:
        found[frame_id].append(Detection(label, class_id or 0, confidence, tuple(box)))
    return found
