"""What pages and API answer, from one session: pages of frames with their boxes, days, and numbers.

The questions themselves are those of `lake.query`, which commands and notebooks ask too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.events.configuration import Rules, read_rules
from imgpipeline.lake.lineage.frame_lineage import CountingNumber, numbers_counting, numbers_of_day
from imgpipeline.lake.query.days import Span, unknown_day
from imgpipeline.lake.query.frames import (
    FramePlace,
    count_detections,
    detections_in,
    find_frame,
    list_frames,
    nearest_frame,
)
from imgpipeline.lake.query.source_status import SourceStatus, source_status_of
from imgpipeline.lake.query.summaries import HourlyCount, hourly_counts
from imgpipeline.lake.query.wanted_frames import Area, WantedFrames
from imgpipeline.lake.sessions.local_time import DAY_OF_ROW, hours_of
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.queries import FrameQuery, NumberQuery, PageQuery, cursor_of, read_cursor, words_of
from imgpipeline.web.viewer.site import ViewedSite


@dataclass(frozen=True, slots=True)
class FramePage:
    """Some frames of one day or several, the latest first."""

    days: Sequence[date]
    """The days with data that are listed, in the session's time zone, sorted."""
    frames: Sequence[Mapping[str, Any]]
    """Rows of `frames` with `file`, `detections` (label and count) and `boxes` (all detections)."""
    table: pa.Table
    """The same rows without `boxes`."""
    matching: int
    """Frames that match the filters, on all pages."""
    detections: int
    """Detections that match the filters, in those frames."""
    number: int | None
    """What `label_counts` says of the same label, hour, source and days; None if the filters name no such number."""
    newer: str | None
    """Cursor of the page before; None on the first page."""
    older: str | None
    """Cursor of the page after; None on the last page."""

    @property
    def day(self) -> date | None:
        """The day, if it is one."""
        return self.days[0] if len(self.days) == 1 else None


def shown_day(lake: LakeSession, day: date | None) -> date | None:
    """Returns the day that a page shows: the one asked for, or the latest; None in an empty store.

    Raises:
        ConfigurationError: The ledger does not know the day.
    """
    days = lake.days
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
    """Returns each day of the session's time zone with its frames and detections, the latest first."""
    day = DAY_OF_ROW if lake.local else "day"
    frames, detections = (
        f"(SELECT {day} AS day, count(*) AS {table} FROM {table} GROUP BY ALL)"  # noqa: S608 - own names
        for table in ("frames", "detections")
    )
    rows = lake.query(
        f"SELECT day, coalesce(frames, 0), coalesce(detections, 0) FROM {frames} FULL JOIN {detections} USING (day)"  # noqa: S608 - own names
    ).rows
    counts = {day: found for day, *found in rows}
    days = sorted({*lake.days, *counts}, reverse=True)
    return [dict(zip(("day", "frames", "detections"), (day, *counts.get(day, (0, 0))), strict=True)) for day in days]


def statuses_of(site: ViewedSite, lake: LakeSession) -> tuple[SourceStatus, ...]:
    """Returns how the sources are, asked once for all requests that read the same session."""
    return site.lake.remembered(lake, "source status", lambda: source_status_of(lake, site.settings, now=site.clock()))


def days_shown(lake: LakeSession, query: FrameQuery) -> tuple[date, ...]:
    """Returns the days with data that a query asks for, sorted.

    Raises:
        ConfigurationError: The ledger knows none of them, or is empty.
    """
    if not query.has_several_days:
        return (known_day(lake, query.day),)
    span = Span(query.from_day, query.to_day)
    days = tuple(sorted(day for day in lake.days if day in span))
    if not days:
        nearest = span.first or span.last or date.min
        raise unknown_day(nearest, lake.days) if lake.days else _no_day(nearest)
    return days


def rules_of(site: ViewedSite, lake: LakeSession) -> Rules:
    """Returns the rules, as they were when they were first read for a session.

    Raises:
        ConfigurationError: They cannot be read.
        TransientError: The store does not answer.
    """
    return site.lake.remembered(lake, "rules", lambda: read_rules(site.settings, site.store))


def wanted_frames(site: ViewedSite, lake: LakeSession, query: FrameQuery, days: Sequence[date]) -> WantedFrames:
    """Returns the filter that a query describes.

    Args:
        site: Names the rules, for zones.
        lake: The session.
        query: The filters.
        days: Its days, sorted.

    Raises:
        ConfigurationError: There is no such zone, or the rules cannot be read.
    """
    return WantedFrames(
        query.source, query.label, query.status, Span(days[0], days[-1]), query.hour, query.time_of_day,
        query.min_confidence or 0.0, (query.zone and _area(rules_of(site, lake), query.zone)) or None,
        query.track, query.object, query.event, query.model, words_of(query.text or ""), lake.local,
    )  # fmt: skip


def _area(rules: Rules, name: str) -> Area:
    zone = next((zone for zone in rules.zone if zone.name == name), None)
    if zone is None:
        known = ", ".join(zone.name for zone in rules.zone)
        raise ConfigurationError(
            f"The rules have no zone {name!r}.",
            next_step=f"take one of {known}" if known else "set IMGPIPELINE_RULES_FILE to rules with zones",
        )
    return Area(zone.source, zone.fractions)


def page_of_frames(
    site: ViewedSite, lake: LakeSession, query: PageQuery, limit: int, *, is_compared: bool = True
) -> FramePage:
    """Returns one page of the frames that a query asks for.

    Args:
        site: Names the rules and from which confidence on numbers count.
        lake: The session.
        query: Filters and place.
        limit: At most so many frames.
        is_compared: Whether `number` is asked for: over many days, that takes seconds.

    Raises:
        UsageError: A cursor is wrong, or two places are given.
        ConfigurationError: The ledger does not know the days, or there is no such zone.
    """
    days = days_shown(lake, query)
    after, before = _place(lake, query, days[-1])
    wanted = wanted_frames(site, lake, query, days)
    found = list_frames(lake, wanted, limit + 1, after=after, before=before)
    has_more = len(found.table) > limit
    table = found.table.slice(max(0, len(found.table) - limit)) if before else found.table.slice(0, limit)
    kept = table.to_pylist(maps_as_pydicts="strict")
    times = (kept[-1]["timestamp"], kept[0]["timestamp"]) if kept else None
    boxes = detections_in(lake, [(row["day"], row["frame_id"]) for row in kept], times=times)
    frames = [{**row, "boxes": boxes[row["day"], row["frame_id"]]} for row in kept]
    return FramePage(
        days=days,
        frames=frames,
        table=table,
        matching=found.matching,
        detections=count_detections(lake, wanted),
        number=_number(site, lake, query, days) if is_compared else None,
        newer=cursor_of(place_of(frames[0])) if frames and (after or (before and has_more)) else None,
        older=cursor_of(place_of(frames[-1])) if frames and (before or has_more) else None,
    )


def _place(lake: LakeSession, query: PageQuery, latest: date) -> tuple[FramePlace | None, FramePlace | None]:
    """Returns after which place a page begins, or before which it ends."""
    if sum(one is not None for one in (query.after, query.before, query.at)) > 1:
        raise UsageError("Two of after, before and at are given.", next_step="give one of them")
    if query.at_s is not None:
        in_utc = datetime.combine(latest, time(), UTC) + timedelta(seconds=query.at_s)
        at = lake.local.instant(latest, query.at_s) if lake.local else in_utc
        return FramePlace(at, at.date(), ""), None  # before all frames of this very time
    return read_cursor(query.after), read_cursor(query.before)


def _number(site: ViewedSite, lake: LakeSession, query: FrameQuery, days: Sequence[date]) -> int | None:
    least_confidence = site.settings.summary_threshold
    if query.label is None or not query.is_number or (query.min_confidence or 0.0) != least_confidence:
        return None
    return _count(site, lake, days, query.label, query.hour, query.source)


def number_of(site: ViewedSite, lake: LakeSession, number: NumberQuery) -> int:
    """Returns a number of `label_counts`, summed over the hours of the day if it names no hour; 0 if there is none."""
    return _count(site, lake, [number.day], number.label, number.hour, number.source)


def utc_days_of(lake: LakeSession, days: Sequence[date]) -> Sequence[date]:
    """Returns the UTC days with data that hold something of some days of the session's time zone, sorted."""
    if lake.local is None:
        return days
    return [day for day in lake.snapshot.days if day in Span(*lake.local.utc_days(days[0], days[-1]))]


def in_utc_hours(lake: LakeSession, number: NumberQuery) -> NumberQuery | None:
    """Returns a number of an hour of the session's time zone as one of the stored summary; None if it is not one."""
    if lake.local is None:
        return number
    starts = [one.start for one in hours_of(lake.local, number.day) if one.hour == number.hour]
    if len(starts) != 1 or not lake.local.has_whole_hours:
        return None
    return number.model_copy(update={"day": starts[0].date(), "hour": starts[0].hour})


def counts_of(site: ViewedSite, lake: LakeSession, days: Sequence[date]) -> list[HourlyCount]:
    """Returns the counts of some days, counted once for all requests that read the same session."""
    return site.lake.remembered(lake, ("counts", *days), lambda: hourly_counts(lake, days))


def _count(
    site: ViewedSite, lake: LakeSession, days: Sequence[date], label: str, hour: int | None, source: str | None
) -> int:
    return sum(
        one.count
        for one in counts_of(site, lake, days)
        if one.label == label and hour in (None, one.hour.hour) and source in (None, one.source)
    )


def numbers_of_frame(site: ViewedSite, lake: LakeSession, day: date, frame_id: str) -> tuple[CountingNumber, ...]:
    """Returns the numbers that count detections of a frame; those of its day are read once for each session."""
    of_day = site.lake.remembered(lake, ("numbers", day), lambda: numbers_of_day(lake, day))
    return numbers_counting(lake, day, frame_id, of_day)


def place_of(frame: Mapping[str, Any]) -> FramePlace:
    """Returns the place of a frame in lists."""
    return FramePlace(frame["timestamp"], frame["day"], frame["frame_id"])


def frame_row(lake: LakeSession, day: date, frame_id: str) -> dict[str, Any]:
    """Returns one frame.

    Args:
        lake: The session.
        day: UTC day of the frame, whatever the session's time zone is.
        frame_id: The frame.

    Raises:
        ConfigurationError: There is no such day or frame.
    """
    days = lake.snapshot.days
    if day not in days:
        raise unknown_day(day, days) if days else _no_day(day)
    frame = find_frame(lake, day, frame_id)
    if frame is None:
        raise ConfigurationError(
            f"{day} has no frame {frame_id}.", next_step=f"the frames of that day: /review?day={day}&timezone=UTC"
        )
    return frame


def neighbours(
    lake: LakeSession, frame: Mapping[str, Any], wanted: WantedFrames
) -> tuple[FramePlace | None, FramePlace | None]:
    """Returns the places of the next newer and the next older frame that match; None at an end."""
    place = place_of(frame)
    return nearest_frame(lake, wanted, place, is_newer=True), nearest_frame(lake, wanted, place, is_newer=False)
