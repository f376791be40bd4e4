"""The overview of a day: its counts, the sources now, and the health of the store; and the stored daily reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.contracts.keys import REPORTS, parse_day, report_key
from imgpipeline.daily.states import day_states, due_days
from imgpipeline.detect.state import DetectionState, read_state
from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.events.alerts.listing import ListedAlert, list_alerts
from imgpipeline.lake.quality.audit_report import DayFigures
from imgpipeline.lake.query.source_status import SourceStatus
from imgpipeline.lake.query.summaries import ask_session
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.objectstore import ObjectInfo, ObjectMissingError
from imgpipeline.reports.evidence import DayVerdict, Verdict, last_audit
from imgpipeline.reports.inputs import read_live_inputs
from imgpipeline.web.viewer.alerts import numbered_page
from imgpipeline.web.viewer.answers import counts_of, days_with_counts, known_day, utc_days_of
from imgpipeline.web.viewer.queries import Day, NoQuery, OverviewQuery, read_query
from imgpipeline.web.viewer.responses import Renderer, answer_json
from imgpipeline.web.viewer.site import ViewedSite
from imgpipeline.web.viewer.sources import statuses_of

_SHOWN_ALERTS = 5
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
    """Class name."""
    hours: Mapping[int, int]
    """Detections by hour of the day, without empty hours."""
    unique: int | None
    """Unique objects of the UTC day; None without tracks."""

    @property
    def count(self) -> int:
        """Detections of the day."""
        return sum(self.hours.values())


@dataclass(frozen=True, slots=True)
class Overview:
    """The counts of a day, and the sources now."""

    day: date
    """The day, in the session's time zone."""
    frames: int
    """Frames, including gated ones."""
    gated: int
    """Gated frames."""
    dead_letters: int
    observed_s: float
    """Observed seconds, summed over sources."""
    labels: tuple[LabelRow, ...]
    """The most frequent first."""
    sources: tuple[SourceStatus, ...]
    """Status of the sources, by name."""

    @property
    def detections(self) -> int:
        """Detections that the summaries count."""
        return sum(row.count for row in self.labels)

    @property
    def most_in_an_hour(self) -> int:
        """The largest count in the table, at least 1."""
        return max((count for row in self.labels for count in row.hours.values()), default=1)

    @property
    def unique(self) -> int | None:
        """Unique objects of the UTC day; None without tracks."""
        known = [row.unique for row in self.labels if row.unique is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Information that is in the store but not in the tables."""

    verdicts: Mapping[date, DayVerdict]
    """The last audit, as in the report, of each UTC day that overlaps the day."""
    alerts: tuple[ListedAlert, ...]
    """The latest alerts, the latest first."""
    days_behind: Mapping[date, str]
    """Stale days with the reason, sorted."""
    detection: DetectionState
    """What the sensor saw of detection."""


def overview_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(tags=["viewer"])

    @router.get("/", include_in_schema=False, response_class=HTMLResponse)
    def overview_page(request: Request) -> Response:
        if "alert_num" in request.query_params:  # the address of the classic alert viewer
            return numbered_page(site, renderer, request, request.query_params["alert_num"])
        query = read_query(OverviewQuery, request)
        zone = site.page_zone(query)
        with site.lake.reading(zone) as lake:
            day = known_day(lake, query.day)
            days = days_with_counts(site, lake)
            overview = site.lake.remembered(lake, ("overview", day), lambda: _read_overview(site, lake, day))
            health = _read_health(site, lake, day)
        return renderer.page("overview.html", overview=overview, health=health, days=days, zone=zone, query=query,
                             threshold=site.settings.summary_threshold or None, now=site.clock())  # fmt: skip

    _add_reports(router, site, renderer)
    return router


def _read_overview(site: ViewedSite, lake: LakeSession, day: date) -> Overview:
    sources = ask_session(lake, "sources", [day]).table.to_pylist()
    return Overview(
        day=day,
        frames=sum(row["frames"] for row in sources),
        gated=sum(row["gated"] for row in sources),
        dead_letters=sum(row["dead_letters"] for row in sources),
        observed_s=sum(row["observed_s"] or 0.0 for row in sources),
        labels=_labels(site, lake, day),
        sources=statuses_of(site, lake),
    )


def _labels(site: ViewedSite, lake: LakeSession, day: date) -> tuple[LabelRow, ...]:
    hours: dict[str, dict[int, int]] = {}
    for one in counts_of(site, lake, [day]):
        of_label = hours.setdefault(one.label, {})
        of_label[one.hour.hour] = of_label.get(one.hour.hour, 0) + one.count
    unique = dict(lake.query(_UNIQUE, [day]).rows)
    rows = (LabelRow(label, counts, unique.get(label, 0) if unique else None) for label, counts in hours.items())
    return tuple(sorted(rows, key=lambda row: (-row.count, row.label)))


def _read_health(site: ViewedSite, lake: LakeSession, day: date) -> StoreHealth | None:
    """Reads the health of the store, once per session; None while the store does not answer."""
    if isinstance(site.lake.state.problem, TransientError):
        return None  # no second wait: the page already says that the store does not answer

    def read() -> StoreHealth:
        alerts, _ = list_alerts(site.store, limit=_SHOWN_ALERTS)
        verdicts = {one: _last_audit(site, one) for one in utc_days_of(lake, [day])}
        behind = due_days(day_states(site.store, site.settings, now=site.clock()))
        return StoreHealth(verdicts, tuple(alerts), behind, read_state(site.store))

    try:
        return site.lake.remembered(lake, ("health", day), read)
    except TransientError:
        return None


def _last_audit(site: ViewedSite, day: date) -> DayVerdict:
    try:
        return last_audit(read_live_inputs(site.store, site.settings, day, now=site.clock()))
    except PermanentError as error:  # a table or a segment cannot be read
        return DayVerdict(Verdict.WRONG, None, DayFigures(), (), (str(error),))


def _add_reports(router: APIRouter, site: ViewedSite, renderer: Renderer) -> None:
    @router.get("/reports", include_in_schema=False, response_class=HTMLResponse)
    def reports_page(request: Request) -> Response:
        read_query(NoQuery, request)
        return renderer.page("reports.html", reports=_stored_reports(site))

    @router.get("/reports/{day}", include_in_schema=False, response_class=HTMLResponse)
    def report(day: Annotated[Day, Path()]) -> Response:
        try:
            stored = site.store.get(report_key(day))
        except ObjectMissingError:
            raise ConfigurationError(
                f"No report of {day} is stored.", next_step=f"imgpipeline report --day {day}"
            ) from None
        return HTMLResponse(stored, headers={"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-cache"})

    @router.get("/api/v1/reports")
    def reports(request: Request) -> Response:
        """Lists the stored daily reports, the latest first. `/reports/DAY` is a report in HTML."""
        found = [
            {"day": day, "size_bytes": one.size_bytes, "made_at": one.last_modified}
            for day, one in _stored_reports(site)
        ]
        return answer_json(request, {"reports": found})


def _stored_reports(site: ViewedSite) -> Sequence[tuple[date, ObjectInfo]]:
    named = ((parse_day(info.key), info) for info in site.store.list_objects(REPORTS))
    return sorted(
        ((day, info) for day, info in named if day is not None and info.key == report_key(day)),
        key=lambda pair: pair[0],
        reverse=True,
    )
