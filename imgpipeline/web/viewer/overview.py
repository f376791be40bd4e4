"""The overview of a day, its sources, and the stored daily reports.

Of the sources: their status, their newest images, and when each was observed on a day.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from imgpipeline.contracts.keys import REPORTS, parse_day, report_key
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.detect.state import read_state
from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.events.alerts.listing import list_alerts
from imgpipeline.lake.quality.audit_report import DayFigures
from imgpipeline.lake.query.accuracy import INTERVAL, intervals_of
from imgpipeline.lake.query.coverage import SourceCoverage, read_coverage
from imgpipeline.lake.query.frames import detections_in, list_newest
from imgpipeline.lake.query.source_status import SourceStatus, source_status_of
from imgpipeline.lake.query.summaries import HourlyCount, ask_session
from imgpipeline.lake.schema.tracks import UNIQUE_TOTALS
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.objectstore import ObjectInfo, ObjectMissingError
from imgpipeline.reports.evidence import DayVerdict, Verdict, audit_of
from imgpipeline.sinks.exporting import read_statuses
from imgpipeline.web.viewer.alerts import numbered_page
from imgpipeline.web.viewer.answers import counts_of, utc_days_of
from imgpipeline.web.viewer.queries import Day, DayQuery, Name, NoQuery, OverviewQuery, Zoned
from imgpipeline.web.viewer.responses import Pages, fields_of
from imgpipeline.web.viewer.site import Site, ViewedSite
from imgpipeline.web.viewer.views import Asked, View, add_views, page_of

_SHOWN_ALERTS = 5
_BEHIND_S = 30.0
"""Period for which the days that wait for a build are remembered."""
_UNIQUE = "SELECT label, CAST(sum(new_objects) AS BIGINT) FROM unique_totals WHERE day = ? GROUP BY label"
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""A report embeds its style and images. The sandbox forbids scripts and isolates its origin, so people who can write
to the store cannot act as the reader of a report."""


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row of the table of counts."""

    label: str
    hours: Mapping[int, int]
    unique: int | None
    """Unique objects of the UTC day; None if its tracks are not built."""

    interval: Mapping[str, Any] = field(default_factory=lambda: dict.fromkeys(INTERVAL))
    """The columns of `accuracy.INTERVAL`; without a plan their values are None."""

    @property
    def count(self) -> int:
        """Detections of the day."""
        return sum(self.hours.values())


class CoverageQuery(DayQuery):
    """Sources on a day."""

    source: Name | None = Field(None, description="Only this source.")


def _overview(asked: Asked) -> Mapping[str, Any]:
    return asked.remembered(("overview", asked.day), lambda: _read_overview(asked, asked.day))


def _overview_page(asked: Asked, found: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "overview": found, "health": _health(asked), "days": asked.days, "now": asked.site.clock(),
        "threshold": asked.site.settings.summary_threshold or None,
    }  # fmt: skip


def _read_overview(asked: Asked, day: date) -> Mapping[str, Any]:
    """Returns the counts of a day, and the sources now."""
    lake = asked.lake
    sources = ask_session(lake, "sources", [day]).table.to_pylist()
    unique = dict(lake.query(_UNIQUE, [day]).rows) if lake.stored_file(UNIQUE_TOTALS.name, day) else None
    labels = _with_intervals(lake, day, _labels(counts_of(asked.site, lake, [day]), unique))
    columns = ("frames", "gated", "dead_letters", "observed_s")
    return {
        "day": day,
        **{column: sum(row[column] or 0 for row in sources) for column in columns},
        "labels": labels,
        "detections": sum(row.count for row in labels),
        "most_in_an_hour": max((count for row in labels for count in row.hours.values()), default=1),
        "unique": None if unique is None else sum(unique.values()),
        "sources": _statuses(asked),
    }


def _labels(counts: Iterable[HourlyCount], unique: Mapping[str, int] | None) -> tuple[LabelRow, ...]:
    hours: dict[str, dict[int, int]] = {}
    for one in counts:
        of_label = hours.setdefault(one.label, {})
        of_label[one.hour.hour] = of_label.get(one.hour.hour, 0) + one.count
    rows = (
        LabelRow(label, of_label, None if unique is None else unique.get(label, 0)) for label, of_label in hours.items()
    )
    return tuple(sorted(rows, key=lambda row: (-row.count, row.label)))


def _with_intervals(lake: LakeSession, day: date, rows: Sequence[LabelRow]) -> Sequence[LabelRow]:
    """Adds the interval of each count."""
    counts = [{"label": row.label, "count": row.count} for row in rows]
    found = intervals_of(lake, counts, ("label",), [day])
    return [replace(row, interval=interval) for row, interval in zip(rows, found, strict=True)]


def _health(asked: Asked) -> Mapping[str, Any] | None:
    """Reads what is in the store but not in the tables, once per session; None while the store does not answer."""
    site, lake, day = asked.site, asked.lake, asked.day
    if isinstance(site.lake.state.problem, TransientError):
        return None  # no second wait: the page already says that the store does not answer

    def read() -> Mapping[str, Any]:
        return {
            "alerts": list_alerts(site.store, limit=_SHOWN_ALERTS)[0],
            "verdicts": {one: _last_audit(site, lake, one) for one in utc_days_of(lake, [day])},
            "detection": read_state(site.store),
            "sinks": read_statuses(site.store, site.settings),
        }

    try:
        behind = _days_behind(site, int(site.clock().timestamp() / _BEHIND_S))
        return {**asked.remembered(("health", day), read), "days_behind": behind}
    except TransientError:
        return None


@lru_cache(maxsize=1)  # not once per session: reading all days takes long, and frames replace a session every second
def _days_behind(site: ViewedSite, _period: int) -> Mapping[date, str]:
    return due_days(day_states(site.store, site.settings, now=site.clock()))


def _last_audit(site: ViewedSite, lake: LakeSession, day: date) -> DayVerdict:
    try:
        return audit_of(site.store, day, is_behind=day in lake.snapshot.newer_days)
    except PermanentError as error:  # a table cannot be read
        return DayVerdict(Verdict.WRONG, None, DayFigures(), (), (str(error),))


def _statuses(asked: Asked) -> tuple[SourceStatus, ...]:
    """Returns the status of each source, queried once per session."""
    site, lake = asked.site, asked.lake
    return asked.remembered("source status", lambda: source_status_of(lake, site.settings, now=site.clock()))


def _live(asked: Asked) -> Sequence[Mapping[str, Any]]:
    return asked.remembered("live", lambda: _read_live(asked.lake, _statuses(asked)))


def _read_live(lake: LakeSession, statuses: Sequence[SourceStatus]) -> Sequence[Mapping[str, Any]]:
    """Returns each source with its newest frame, a row of `frames` or None, and the boxes of that."""
    last = {one.source: one.last_frame.astimezone(UTC) for one in statuses if one.last_frame}
    frames = {row["source"]: row for row in list_newest(lake, last)}
    boxes = detections_in(lake, [(row["day"], row["frame_id"]) for row in frames.values()])
    found = ((one, frames.get(one.source)) for one in statuses)
    return [
        {"status": one, "frame": frame, "boxes": boxes[frame["day"], frame["frame_id"]] if frame else ()}
        for one, frame in found
    ]


def _coverage(asked: Asked) -> Sequence[SourceCoverage]:
    site, day = asked.site, asked.day
    found = asked.remembered(("coverage", day), lambda: read_coverage(asked.lake, site.settings, day, now=site.clock()))
    return [one for one in found if asked.query.source in (None, one.source)]


def _coverage_page(asked: Asked, found: Sequence[SourceCoverage]) -> Mapping[str, Any]:
    midnight = datetime.combine(asked.day, time(), UTC)
    return {"day": asked.day, "days": asked.days, "sources": found, "midnight": midnight}


def _coverage_document(asked: Asked, found: Sequence[SourceCoverage]) -> Mapping[str, Any]:
    sources = [
        {
            **asdict(one),
            "observed_s": one.observed_s,
            "outages": [{**asdict(outage), "duration_s": outage.duration_s} for outage in one.outages],
        }
        for one in found
    ]
    return {"day": asked.day, "sources": sources}


def _live_document(asked: Asked, found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    sources = [
        {
            "source": one["status"].source,
            "state": one["status"].state,
            "frame": one["frame"],
            "detections": one["boxes"],
        }
        for one in found
    ]
    return {"snapshot": asked.site.lake.state.taken_at, "sources": sources}


def _stored_reports(site: ViewedSite) -> Sequence[tuple[date, ObjectInfo]]:
    named = ((parse_day(info.key), info) for info in site.store.list_objects(REPORTS))
    return sorted(
        ((day, info) for day, info in named if day is not None and info.key == report_key(day)),
        key=lambda pair: pair[0],
        reverse=True,
    )


_SOURCES = View(
    "/sources", NoQuery, _statuses, None, lambda _, found: {"sources": [fields_of(one) for one in found]},
    "Lists the sources of the last 30 days: state, last frame, rate, and today's accounts.",
)  # fmt: skip
_LIVE = View(
    "/live", Zoned, _live, lambda asked, found: {"sources": found, "now": asked.site.clock()}, _live_document,
    "Returns the newest frame of each source of the last 30 days, with its detections.", api_query=NoQuery,
)  # fmt: skip
_COVERAGE = View(
    "/coverage", CoverageQuery, _coverage, _coverage_page, _coverage_document,
    "Returns how long each source was observed in each UTC hour of a day, with its outages.",
)  # fmt: skip
_OVERVIEW = View("/overview", OverviewQuery, _overview, _overview_page)
_REPORTS = View(
    "/reports", NoQuery, lambda asked: _stored_reports(asked.site), lambda _, found: {"reports": found},
    lambda _, found: {"reports": [
        {"day": day, "size_bytes": one.size_bytes, "made_at": one.last_modified} for day, one in found
    ]},
    "Lists the stored daily reports, the latest first. `/reports/DAY` is a report in HTML.",
)  # fmt: skip


router = APIRouter(tags=["viewer"])
add_views(router, _SOURCES, _LIVE, _COVERAGE, _REPORTS)


@router.get("/", include_in_schema=False, response_class=HTMLResponse)
def overview_page(request: Request, site: Site, pages: Pages, query: Annotated[OverviewQuery, Query()]) -> Response:
    """Shows the overview, or an alert."""
    if query.alert_num:
        return numbered_page(site, pages, request, query.alert_num, Zoned(timezone=query.timezone))
    return page_of(_OVERVIEW, request, query, pages)


@router.get("/reports/{day}", include_in_schema=False, response_class=HTMLResponse)
def report(site: Site, day: Annotated[Day, Path()]) -> Response:
    """Shows a stored report, isolated from the viewer."""
    try:
        stored = site.store.get(report_key(day))
    except ObjectMissingError:
        raise ConfigurationError(
            f"No report of {day} is stored.", next_step=f"imgpipeline report --day {day}"
        ) from None
    return HTMLResponse(stored, headers={"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-cache"})
