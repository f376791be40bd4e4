"""Filters of frames and detections, and their SQL conditions.

A filter of frames selects whole frames: a frame that matches keeps all of its boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.sessions.local_time import DAY_OF_ROW, LocalDays
from imgpipeline.lake.storage.engine import quoted

_ALL_DAYS = Span()
DAY_S = 24 * 60 * 60
_DETECTION = "(day, frame_id, detection_number)"
_NAMED = ("source", "source_image_path", "gate_reason", "CAST(attributes AS VARCHAR)")
_SECOND = "(epoch_us({time}) % 86400000000 + 86400000000) % 86400000000 / 1000000"


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """A part of every day. If it ends before it starts, it spans midnight."""

    start_s: int
    """The first second, 0 to 86,400."""
    end_s: int
    """The first second after it, 0 to 86,400."""


@dataclass(frozen=True, slots=True)
class Area:
    """A polygon in the images of a source."""

    source: str
    corners: tuple[tuple[float, float], ...]
    """x and y of each corner, as fractions of the image's width and height."""


@dataclass(frozen=True, slots=True)
class WantedFrames:
    """A filter of frames."""

    source: str | None = None
    label: str | None = None
    status: FrameStatus | None = None
    span: Span = _ALL_DAYS
    hour: int | None = None
    """Only those of this hour of the day, 0 to 23."""
    time_of_day: TimeOfDay | None = None
    min_confidence: float = 0.0
    """Only those with a detection of at least this confidence, 0 to 1."""
    area: Area | None = None
    """Only those of the area's source with a detection whose foot point is in the polygon or on its edge."""
    track: str | None = None
    """Only those with a detection of this track (`track_id`)."""
    tracked_object: str | None = None
    """Only those with a detection of this object (`object_id`)."""
    event: str | None = None
    """Only those that show this event (`event_id`)."""
    model: str | None = None
    """Only those that this model processed; only its detections match."""
    words: tuple[str, ...] = ()
    """Only those with each of these texts, ignoring case, in a name, label, attribute or reason."""
    local: LocalDays | None = None
    """Time zone of days and times of day, which must be the session's; None: UTC."""

    @property
    def needs_detection(self) -> bool:
        """Whether a frame matches only if one detection meets all conditions at once."""
        return self.min_confidence > 0 or any(
            wanted is not None for wanted in (self.label, self.area, self.track, self.tracked_object)
        )


def frame_condition(wanted: WantedFrames) -> str:
    """Returns the condition on rows of `frames`."""
    parts = [*_of_both_tables(wanted), *_of_frames_alone(wanted)]
    if wanted.needs_detection:
        having = f"SELECT day, frame_id FROM detections WHERE {_found(wanted)}"  # noqa: S608 - quoted
        parts.append(f"(day, frame_id) IN ({having})")
    return " AND ".join(parts)


def detection_condition(wanted: WantedFrames) -> str:
    """Returns the condition on rows of `detections`: the matching detections in the wanted frames.

    A detection has its frame's day, source and time, so `frames` is read only for other conditions.
    """
    alone = _of_frames_alone(wanted)
    if not alone:
        return _found(wanted)
    frames = f"SELECT day, frame_id FROM frames WHERE {' AND '.join([*_of_both_tables(wanted), *alone])}"  # noqa: S608 - quoted
    return f"{_found(wanted)} AND (day, frame_id) IN ({frames})"


def _of_both_tables(wanted: WantedFrames) -> list[str]:
    return [
        rows_of_days(wanted.span, wanted.local),
        *_equal("source", wanted.source),
        *_equal("source", wanted.area.source if wanted.area else None),
        *_times(wanted),
    ]


def _of_frames_alone(wanted: WantedFrames) -> list[str]:
    parts = [
        *_equal("status", wanted.status and wanted.status.value),
        *(_frame_with(word, rows_of_days(wanted.span, wanted.local)) for word in wanted.words),
    ]
    if wanted.model is not None:
        model = quoted(wanted.model)
        parts.append(f"(model_used = {model} OR list_contains([one.model FOR one IN detectors], {model}))")
    if wanted.event is not None:
        showing = f"SELECT day, unnest(frame_ids) FROM events WHERE event_id = {quoted(wanted.event)}"  # noqa: S608 - quoted
        parts.append(f"(day, frame_id) IN ({showing})")
    return parts


def _found(wanted: WantedFrames) -> str:
    parts = [
        f"confidence >= {float(wanted.min_confidence)!r}",
        *_of_both_tables(wanted),
        *_equal("label", wanted.label),
        *_equal("model_used", wanted.model),
    ]
    if wanted.area is not None:
        parts.append(f"{_DETECTION} IN ({_with_foot_point_in(wanted.area, rows_of_days(wanted.span, wanted.local))})")
    if wanted.track is not None:
        parts.append(f"{_DETECTION} IN ({_points_of(f'track_id = {quoted(wanted.track)}')})")
    if wanted.tracked_object is not None:
        tracks = f"SELECT day, track_id FROM tracks WHERE object_id = {quoted(wanted.tracked_object)}"  # noqa: S608 - quoted
        parts.append(f"{_DETECTION} IN ({_points_of(f'(day, track_id) IN ({tracks})')})")
    return " AND ".join(parts)


def equal_to(**wanted: str | None) -> str:
    """Returns the condition that columns equal these values; None accepts any value."""
    return " AND ".join(part for name, value in wanted.items() for part in _equal(name, value)) or "true"


def holds_text(columns: Sequence[str], word: str) -> str:
    """Returns the condition that one of some text columns contains a text, ignoring case."""
    return " OR ".join(f"contains(lower({column}), lower({quoted(word)}))" for column in columns)


def span_condition(span: Span, day: str = "day") -> str:
    """Returns the condition that a day, by default the column `day`, is in a span."""
    if span.first is not None and span.first == span.last:
        return f"{day} = DATE '{span.first}'"
    ends: tuple[tuple[str, date | None], ...] = ((">=", span.first), ("<=", span.last))
    return " AND ".join(f"{day} {sign} DATE '{one}'" for sign, one in ends if one is not None) or "true"


def rows_of_days(span: Span, local: LocalDays | None, day: str = DAY_OF_ROW) -> str:
    """Returns the condition that rows are in a span of days.

    Args:
        span: The days; with both ends if `local` is given.
        local: The session's time zone; None: UTC.
        day: SQL for the local day of a row.
    """
    if local is None or span.first is None or span.last is None:
        return span_condition(span)
    return f"{span_condition(Span(*local.utc_days(span.first, span.last)))} AND {span_condition(span, day)}"


def _equal(column: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{column} = {quoted(value)}"]


def _times(wanted: WantedFrames) -> list[str]:
    time = 'local_time("timestamp")' if wanted.local else '"timestamp"'
    parts = [] if wanted.hour is None else [f"hour({time}) = {int(wanted.hour)}"]
    if wanted.time_of_day is not None:
        start_s, end_s = int(wanted.time_of_day.start_s), int(wanted.time_of_day.end_s)
        joined = "AND" if start_s < end_s else "OR"
        second = _SECOND.format(time=time)
        parts.append(f"({second} >= {start_s} {joined} {second} < {end_s})")
    return parts


def _frame_with(word: str, of_days: str) -> str:
    labelled = f"SELECT day, frame_id FROM detections WHERE ({holds_text(['label'], word)}) AND {of_days}"  # noqa: S608 - quoted
    named = f"{holds_text(_NAMED, word)} OR frame_id = lower({quoted(word)})"
    return f"({named} OR (day, frame_id) IN ({labelled}))"


def _points_of(condition: str) -> str:
    return f"SELECT day, frame_id, detection_number FROM track_points WHERE {condition}"  # noqa: S608 - quoted


def _with_foot_point_in(area: Area, of_days: str) -> str:
    """Returns a query for the detections of some days whose foot point is in a polygon.

    Uses the same operations on the same numbers as `imgpipeline.events.geometry`: the middle of the lower edge of the
    visible part of a box, the even-odd rule, and edges belong to the polygon.
    """
    corners = area.corners
    edges = ", ".join(
        f"({x1!r}::DOUBLE, {y1!r}::DOUBLE, {x2!r}::DOUBLE, {y2!r}::DOUBLE)"
        for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True)
    )
    return f"""
        WITH visible AS (
            SELECT day, frame_id, detection_number, image_width AS w, image_height AS h,
                   greatest(x, 0) AS l, greatest(y, 0) AS t,
                   least(x + width, image_width) AS r, least(y + height, image_height) AS b
            FROM detections WHERE source = {quoted(area.source)} AND x IS NOT NULL AND {of_days}
        ), edged AS (
            SELECT day, frame_id, detection_number, (l + r) / 2 AS px, b AS py,
                   e.x1 * w AS x1, e.y1 * h AS y1, e.x2 * w AS x2, e.y2 * h AS y2
            FROM visible, (VALUES {edges}) AS e(x1, y1, x2, y2) WHERE r >= l AND b >= t
        )
        SELECT day, frame_id, detection_number FROM edged GROUP BY ALL
        HAVING bool_or((x2 - x1) * (py - y1) - (y2 - y1) * (px - x1) = 0 AND least(x1, x2) <= px
                       AND px <= greatest(x1, x2) AND least(y1, y2) <= py AND py <= greatest(y1, y2))
            OR count_if((y1 > py) != (y2 > py) AND x1 + (py - y1) * (x2 - x1) / (y2 - y1) > px) % 2 = 1"""  # noqa: S608 - quoted
