"""Answers that several pages and API routes share: days, pages of frames with their boxes, and numbers.

The queries are those of `lake.query`, which commands and notebooks use too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa

from imgpipeline.errors import ConfigurationError, ImgpipelineError, UsageError
from imgpipeline.events.configuration import Line, Rules, Zone, read_rules
from imgpipeline.lake.query.days import Span, unknown_day
from imgpipeline.lake.query.explain import (
    CountingNumber,
    Explanation,
    NumberId,
    explain,
    numbers_counting,
    numbers_of_day,
)
from imgpipeline.lake.query.frames import (
    FramePlace,
    count_detections,
    detections_in,
    find_frame,
    list_frames,
    nearest_frame,
)
from imgpipeline.lake.query.summaries import HourlyCount, ask_session, hourly_counts
from imgpipeline.lake.query.wanted_frames import Area, WantedFrames, rows_of_days
from imgpipeline.lake.sessions.local_time import DAY_OF_ROW, hours_of
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.queries import FrameQuery, NumberQuery, PageQuery, cursor_of, read_cursor, words_of
from imgpipeline.web.viewer.site import ViewedSite

_MODELS = """
SELECT model, count(*) FROM (
    SELECT unnest(list_distinct(coalesce([one.model FOR one IN detectors], []) || [model_used])) AS model
    FROM frames WHERE {}
) WHERE model IS NOT NULL GROUP BY model ORDER BY model
"""
Choices = Sequence[tuple[str, int | None]]
"""Values of a filter with their frames or, for labels, detections; None if they are not counted."""
MOST_EXPLAINED = 20_000
"""Detections of the largest count that the viewer traces."""
_HOW_TO_START = "announce frames, such as with `imgpipeline ingest folder`"


@dataclass(frozen=True, slots=True)
class FramePage:
    """A page of frames of one or more days, the latest first."""

    days: Sequence[date]
    """The listed days that have data, in the session's time zone, sorted."""
    frames: Sequence[Mapping[str, Any]]
    """Rows of `frames` with `file`, `detections` (count by label) and `boxes` (all detections)."""
    table: pa.Table
    """The same rows without `boxes`."""
    matching: int
    """Frames that match the filters, on all pages."""
    detections: int
    """Detections that match the filters, on all pages."""
    number: int | None
    """The count in `label_counts` for the same label, hour, source and days; None if the filters match none."""
    newer: str | None
    """Cursor of the page of newer frames; None on the first page."""
    older: str | None
    """Cursor of the page of older frames; None on the last page."""

    @property
    def day(self) -> date | None:
        """The day, if only one is listed."""
        return self.days[0] if len(self.days) == 1 else None


class EmptyLedgerError(ConfigurationError):
    """The ledger has no frames, and the request names no single day. Pages then explain how to get frames."""


def known_day(lake: LakeSession, day: date | None) -> date:
    """Returns the requested day, or the latest one.

    Raises:
        ConfigurationError: The ledger has nothing for the day.
        EmptyLedgerError: No day was requested, and the ledger is empty.
    """
    days = lake.days
    if day is not None and day not in days:
        raise _unknown(day, days)
    return day or _not_empty(days)[-1]


def _not_empty(days: Sequence[date]) -> Sequence[date]:
    if not days:
        raise EmptyLedgerError("The ledger is empty.", next_step=_HOW_TO_START)
    return days


def _unknown(day: date, days: Sequence[date]) -> ConfigurationError:
    if days:
        return unknown_day(day, days)
    return ConfigurationError(f"The ledger has nothing for {day}: it is empty.", next_step=_HOW_TO_START)


def day_counts(lake: LakeSession) -> list[dict[str, Any]]:
    """Returns each day of the session's time zone with its number of frames and detections, the latest first."""
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


def days_shown(lake: LakeSession, query: FrameQuery) -> tuple[date, ...]:
    """Returns the days of a query that have data, sorted.

    Raises:
        ConfigurationError: The ledger has none of them.
        EmptyLedgerError: The query names no single day, and the ledger is empty.
    """
    if not query.has_several_days:
        return (known_day(lake, query.day),)
    span = Span(query.from_day, query.to_day)
    days = tuple(sorted(day for day in _not_empty(lake.days) if day in span))
    if not days:
        raise unknown_day(span.first or span.last or date.min, lake.days)
    return days


def rules_of(site: ViewedSite, lake: LakeSession) -> Rules:
    """Returns the rules, read once per session.

    Raises:
        ConfigurationError: They cannot be read.
        TransientError: The store does not answer.
    """
    return site.lake.remembered(lake, "rules", lambda: read_rules(site.settings, site.store))


def places_of(site: ViewedSite, lake: LakeSession, source: str | None) -> list[Zone | Line]:
    """Returns the zones and lines of a source; none if the rules cannot be read, which their own pages report."""
    try:
        return [place for place in rules_of(site, lake).places if place.source == source]
    except ImgpipelineError:
        return []


def wanted_frames(site: ViewedSite, lake: LakeSession, query: FrameQuery, days: Sequence[date]) -> WantedFrames:
    """Returns the filter for the frames of a query on some of its days, sorted.

    Raises:
        ConfigurationError: The zone does not exist, or the rules cannot be read.
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
            next_step=f"choose one of {known}" if known else "set IMGPIPELINE_RULES_FILE to rules with zones",
        )
    return Area(zone.source, zone.fractions)


def page_of_frames(
    site: ViewedSite, lake: LakeSession, query: PageQuery, limit: int, *, is_compared: bool = True
) -> FramePage:
    """Returns one page of at most `limit` frames of a query.

    Reading `number` takes seconds for many days; `is_compared` says whether it is needed.

    Raises:
        UsageError: A cursor is wrong, or several starts are given.
        ConfigurationError: The ledger has none of the days, or the zone does not exist.
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
    """Returns the place after which a page starts, or before which it ends."""
    if sum(one is not None for one in (query.after, query.before, query.at)) > 1:
        raise UsageError("Only one of after, before and at can be given.", next_step="give one of them")
    if query.at_s is not None:
        in_utc = datetime.combine(latest, time(), UTC) + timedelta(seconds=query.at_s)
        at = lake.local.instant(latest, query.at_s) if lake.local else in_utc
        return FramePlace(at, at.date(), ""), None  # sorts before all frames of the same time
    return read_cursor(query.after), read_cursor(query.before)


def _number(site: ViewedSite, lake: LakeSession, query: FrameQuery, days: Sequence[date]) -> int | None:
    least_confidence = site.settings.summary_threshold
    if query.label is None or not query.is_number or (query.min_confidence or 0.0) != least_confidence:
        return None
    return _count(site, lake, days, query.label, query.hour, query.source)


def number_of(site: ViewedSite, lake: LakeSession, number: NumberQuery) -> int:
    """Returns a count of `label_counts`, summed over the day if it names no hour."""
    return _count(site, lake, [number.day], number.label, number.hour, number.source)


def explain_number(site: ViewedSite, lake: LakeSession, number: NumberQuery) -> Explanation:
    """Traces a count of `label_counts` to its detections, frames and segments.

    Raises:
        ConfigurationError: The ledger has nothing for the day.
        UsageError: The count is too large to be traced while a browser waits.
        LedgerError: The count does not match the ledger.
    """
    known_day(lake, number.day)
    count = number_of(site, lake, number)
    if count > MOST_EXPLAINED:
        hour = "label-totals" if number.hour is None else f"label-counts --hour {number.hour}"
        raise UsageError(
            f"{count:,} detections are too many to trace while a browser waits; the limit is {MOST_EXPLAINED:,}.",
            next_step=f"choose an hour or a source, or run `imgpipeline explain {hour} --day {number.day}`",
        )
    asked = NumberId(number.day, number.hour, number.label, number.source)
    return explain(lake, site.store, asked, site.settings)


def utc_days_of(lake: LakeSession, days: Sequence[date]) -> Sequence[date]:
    """Returns the UTC days with data that overlap days of the session's time zone, sorted."""
    if lake.local is None:
        return days
    return [day for day in lake.snapshot.days if day in Span(*lake.local.utc_days(days[0], days[-1]))]


def in_utc_hours(lake: LakeSession, number: NumberQuery) -> NumberQuery | None:
    """Converts a count of a local hour to a UTC hour of the stored summary; None if it is not exactly one."""
    if lake.local is None:
        return number
    starts = [one.start for one in hours_of(lake.local, number.day) if one.hour == number.hour]
    if len(starts) != 1 or not lake.local.has_whole_hours:
        return None
    return number.model_copy(update={"day": starts[0].date(), "hour": starts[0].hour})


def counts_of(site: ViewedSite, lake: LakeSession, days: Sequence[date]) -> list[HourlyCount]:
    """Returns the hourly counts of some days, queried once per session."""
    return site.lake.remembered(lake, ("counts", *days), lambda: hourly_counts(lake, days))


def choices_of(site: ViewedSite, lake: LakeSession, days: Sequence[date]) -> Mapping[str, Choices]:
    """Returns the choices of some filters on some days, queried once per session."""
    return site.lake.remembered(lake, ("choices", *days), lambda: _choices(site, lake, days))


def _choices(site: ViewedSite, lake: LakeSession, days: Sequence[date]) -> Mapping[str, Choices]:
    sources = ask_session(lake, "sources", days).table.to_pylist()
    labels: Counter[str] = Counter()
    for one in counts_of(site, lake, days):
        labels[one.label] += one.count
    models = lake.query(_MODELS.format(rows_of_days(Span(days[0], days[-1]), lake.local))).rows
    try:
        zones = rules_of(site, lake).zone
    except ImgpipelineError:
        zones = ()  # filtering by a zone reports the error
    return {
        "source": [(row["source"], row["frames"]) for row in sources if row["source"] is not None],
        "label": sorted(labels.items(), key=lambda label: (-label[1], label[0])),
        "zone": [(zone.name, None) for zone in zones],
        "model": list(models),
    }


def _count(
    site: ViewedSite, lake: LakeSession, days: Sequence[date], label: str, hour: int | None, source: str | None
) -> int:
    return sum(
        one.count
        for one in counts_of(site, lake, days)
        if one.label == label and hour in (None, one.hour.hour) and source in (None, one.source)
    )


def numbers_of_frame(site: ViewedSite, lake: LakeSession, day: date, frame_id: str) -> tuple[CountingNumber, ...]:
    """Returns the counts that include detections of a frame; the counts of its day are queried once per session."""
    of_day = site.lake.remembered(lake, ("numbers", day), lambda: numbers_of_day(lake, day))
    return numbers_counting(lake, day, frame_id, of_day)


def place_of(frame: Mapping[str, Any]) -> FramePlace:
    """Returns the place of a frame in a list."""
    return FramePlace(frame["timestamp"], frame["day"], frame["frame_id"])


def frame_row(lake: LakeSession, day: date, frame_id: str) -> dict[str, Any]:
    """Returns one frame of a UTC day, whatever the time zone of the session.

    Raises:
        ConfigurationError: The day or the frame does not exist.
    """
    days = lake.snapshot.days
    if day not in days:
        raise _unknown(day, days)
    frame = find_frame(lake, day, frame_id)
    if frame is None:
        raise ConfigurationError(
            f"{day} has no frame {frame_id}.", next_step=f"the frames of that day: /review?day={day}&timezone=UTC"
        )
    return frame


def frame_with_boxes(lake: LakeSession, day: date, frame_id: str) -> tuple[dict[str, Any], Sequence[dict[str, Any]]]:
    """Returns one frame and its detections; arguments and errors as `frame_row`."""
    return frame_row(lake, day, frame_id), detections_in(lake, [(day, frame_id)])[day, frame_id]


def neighbours(
    lake: LakeSession, frame: Mapping[str, Any], wanted: WantedFrames
) -> tuple[FramePlace | None, FramePlace | None]:
    """Returns the places of the next newer and the next older frame that match; None at an end."""
    place = place_of(frame)
    return nearest_frame(lake, wanted, place, is_newer=True), nearest_frame(lake, wanted, place, is_newer=False)
