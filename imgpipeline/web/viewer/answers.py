"""What pages and API answer, from one session: pages of frames with their boxes, days, and numbers.

The questions themselves are those of `lake.query`, which commands and notebooks ask too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.lake.query.days import unknown_day
from imgpipeline.lake.query.frames import (
    FramePlace,
    WantedFrames,
    count_detections,
    detections_in,
    find_frame,
    list_frames,
)
from imgpipeline.lake.query.summaries import LabelChoice, ask_session
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.queries import FrameQuery, NumberQuery, PageQuery, cursor_of, read_cursor


@dataclass(frozen=True, slots=True)
class FramePage:
    """Some frames of a day, the latest first."""

    day: date
    """UTC day."""
    frames: Sequence[Mapping[str, Any]]
    """Rows of `frames` with `file`, `detections` (label and count) and `boxes` (all detections)."""
    matching: int
    """Frames that match the filters, on all pages."""
    detections: int
    """Detections that match the filters, in those frames."""
    number: int | None
    """What `label_counts` says of the same label, hour and source; None if the filters describe no such number."""
    newer: str | None
    """Cursor of the page before; None on the first page."""
    older: str | None
    """Cursor of the page after; None on the last page."""


def shown_day(lake: LakeSession, day: date | None) -> date | None:
    """Returns the day that a page shows: the one asked for, or the latest; None in an empty store.

    Raises:
        ConfigurationError: The ledger does not know the day.
    """
    days = lake.snapshot.days
    if day is not None and day not in days:
        raise unknown_day(day, days) if days else _no_day(day)
    return day or (days[-1] if days else None)


def known_day(lake: LakeSession, day: date | None) -> date:
    """Returns `shown_day`, where there is one.

    Raises:
        ConfigurationError: The ledger does not know the day, or is empty.
    """
    shown = shown_day(lake, day)
    if shown is None:
        raise _no_day(day)
    return shown


def _no_day(day: date | None) -> ConfigurationError:
    asked = f"nothing of {day}" if day else "no frames"
    return ConfigurationError(
        f"The ledger has {asked}: it is empty.", next_step="announce frames, such as with `imgpipeline ingest folder`"
    )


def day_counts(lake: LakeSession) -> list[dict[str, Any]]:
    """Returns each day with its frames and detections, the latest first."""
    rows = lake.query(
        "SELECT day, coalesce(frames, 0), coalesce(detections, 0) "
        "FROM (SELECT day, count(*) AS frames FROM frames GROUP BY day) "
        "FULL JOIN (SELECT day, count(*) AS detections FROM detections GROUP BY day) USING (day) ORDER BY day DESC"
    ).rows
    counts = {day: (frames, detections) for day, frames, detections in rows}
    days = sorted({*lake.snapshot.days, *counts}, reverse=True)
    return [dict(zip(("day", "frames", "detections"), (day, *counts.get(day, (0, 0))), strict=True)) for day in days]


def page_of_frames(lake: LakeSession, query: PageQuery, limit: int, least_confidence: float) -> FramePage:
    """Returns one page of the frames that a query asks for.

    Args:
        lake: The session.
        query: Filters and place.
        limit: At most so many frames.
        least_confidence: Numbers count detections from this confidence on (`summary_threshold`).

    Raises:
        UsageError: A cursor is wrong, or both are given.
        ConfigurationError: The ledger does not know the day.
    """
    after, before = read_cursor(query.after), read_cursor(query.before)
    if after and before:
        raise UsageError("after and before are both given.", next_step="give one of them")
    day = known_day(lake, query.day)
    wanted = query.wanted(day)
    found = list_frames(lake, wanted, limit + 1, after=after, before=before)
    rows = found.table.to_pylist(maps_as_pydicts="strict")
    has_more, kept = len(rows) > limit, rows[-limit:] if before else rows[:limit]
    boxes = detections_in(lake, [(row["day"], row["frame_id"]) for row in kept])
    frames = [{**row, "boxes": boxes[row["day"], row["frame_id"]]} for row in kept]
    return FramePage(
        day=day,
        frames=frames,
        matching=found.matching,
        detections=count_detections(lake, wanted),
        number=_number(lake, query, day, least_confidence),
        newer=cursor_of(place_of(frames[0])) if frames and (after or (before and has_more)) else None,
        older=cursor_of(place_of(frames[-1])) if frames and (before or has_more) else None,
    )


def _number(lake: LakeSession, query: FrameQuery, day: date, least_confidence: float) -> int | None:
    if query.label is None or query.status is not None or (query.min_confidence or 0.0) != least_confidence:
        return None
    return number_of(lake, NumberQuery(day=day, label=query.label, hour=query.hour, source=query.source))


def number_of(lake: LakeSession, number: NumberQuery) -> int:
    """Returns a number of `label_counts`, summed over the hours of the day if it names no hour; 0 if there is none."""
    choice = LabelChoice((number.source,) if number.source else (), (number.label,))
    rows = ask_session(lake, "label_counts", [number.day], choice).table.to_pylist()
    return sum(row["count"] for row in rows if number.hour is None or row["hour"].hour == number.hour)


def place_of(frame: Mapping[str, Any]) -> FramePlace:
    """Returns the place of a frame in lists."""
    return FramePlace(frame["timestamp"], frame["day"], frame["frame_id"])


def frame_row(lake: LakeSession, day: date, frame_id: str) -> dict[str, Any]:
    """Returns one frame.

    Raises:
        ConfigurationError: There is no such day or frame.
    """
    frame = find_frame(lake, known_day(lake, day), frame_id)
    if frame is None:
        raise ConfigurationError(
            f"{day} has no frame {frame_id}.", next_step=f"the frames of that day: /review?day={day}"
        )
    return frame


def neighbours(lake: LakeSession, frame: Mapping[str, Any], wanted: WantedFrames) -> tuple[str | None, str | None]:
    """Returns the ids of the next newer and the next older frame that match; None at an end."""
    place = place_of(frame)
    newer = list_frames(lake, wanted, 1, before=place).table.column("frame_id").to_pylist()
    older = list_frames(lake, wanted, 1, after=place).table.column("frame_id").to_pylist()
    return (newer[0] if newer else None), (older[0] if older else None)
