"""The classic dashboard and its API: `/api/count_specific`, `/api/label_counts` and `/api/timeline`.

The original counts from 18:00 to 23:00 of one fixed day. Here `start` and `end` choose the hours, by default the latest
day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from imgpipeline.errors import UsageError
from imgpipeline.lake.query.summaries import LabelChoice, ask_session
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.responses import Pages, answer_json
from imgpipeline.web.viewer.site import Site, ViewedSite

_TOP = 15
_MOST_HOURS = 24 * 31
_HOUR = timedelta(hours=1)
_OBSERVED = "SELECT DISTINCT hour FROM frame_stats WHERE hour IS NOT NULL AND (frames > 0 OR observed_s > 0)"


class ClassicQuery(BaseModel):
    """Labels and a range of hours."""

    model_config = ConfigDict(frozen=True)

    label: list[str] = Field(default_factory=list, max_length=20, description="Labels.")
    start: datetime | None = Field(None, description="First hour. Default: start of the latest day.")
    end: datetime | None = Field(None, description="End of the last hour. Default: one day after `start`.")


@dataclass(frozen=True, slots=True)
class CountedHours:
    """Detections by label and hour."""

    start: datetime
    """First hour, UTC."""
    end: datetime
    """End of the last hour, UTC."""
    counts: Mapping[str, Mapping[datetime, int]]
    """Counts by label and start of the hour, without empty hours."""
    observed: frozenset[datetime]
    """Starts of the hours in which a source was observed, with or without detections."""

    @property
    def totals(self) -> dict[str, int]:
        """Sum of each label, the largest first."""
        sums = {label: sum(hours.values()) for label, hours in self.counts.items()}
        return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))

    def timeline(self, label: str) -> list[tuple[datetime, int]]:
        """Returns the counts of a label from its first to its last hour, including empty hours in between."""
        hours = self.counts.get(label, {})
        if not hours:
            return []
        first, last = min(hours), max(hours)
        steps = range(int((last - first) / _HOUR) + 1)
        return [(first + step * _HOUR, hours.get(first + step * _HOUR, 0)) for step in steps]

    def lines(self, label: str) -> list[list[tuple[datetime, int]]]:
        """Returns the counts of a label in all observed hours; each gap between those starts another list."""
        hours, lines = self.counts.get(label, {}), list[list[tuple[datetime, int]]]()
        for hour in sorted(self.observed):
            if not lines or hour - lines[-1][-1][0] > _HOUR:
                lines.append([])
            lines[-1].append((hour, hours.get(hour, 0)))
        return lines


router = APIRouter(tags=["classic dashboard"])


@router.get("/api/count_specific")
def count_specific(request: Request, site: Site, query: Annotated[ClassicQuery, Query()]) -> Response:
    """Counts the detections of a label: `{"label", "count_in_range"}`."""
    if len(query.label) != 1 or not query.label[0]:
        return JSONResponse({"error": "Missing 'label' parameter"}, 400)
    [label] = query.label
    return answer_json(request, {"label": label, "count_in_range": _count(site, query).totals.get(label, 0)})


@router.get("/api/label_counts")
def label_counts(request: Request, site: Site, query: Annotated[ClassicQuery, Query()]) -> Response:
    """Returns the 15 most frequent labels: `{"labels", "counts"}`."""
    top = list(_count(site, query).totals.items())[:_TOP]
    return answer_json(request, {"labels": [label for label, _ in top], "counts": [count for _, count in top]})


@router.get("/api/timeline")
def timeline(request: Request, site: Site, query: Annotated[ClassicQuery, Query()]) -> Response:
    """Returns hourly counts by label, including empty hours in between: `{label: [{"t", "y"}]}`."""
    found = _count(site, query)
    return answer_json(request, {
        label: [{"t": hour.isoformat(), "y": count} for hour, count in found.timeline(label)]
        for label in query.label
    })  # fmt: skip


@router.get("/dashboard", include_in_schema=False, response_class=HTMLResponse)
def dashboard(site: Site, pages: Pages, query: Annotated[ClassicQuery, Query()]) -> Response:
    """Shows the classic dashboard."""
    found = _count(site, query)
    top = list(found.totals.items())[:_TOP]
    shown = [label for label in query.label if label] or [label for label, _ in top[:3]]
    is_day = found.start.hour == 0 and found.end == found.start + timedelta(days=1)
    return pages.page(
        "dashboard.html", found=found, is_day=is_day, top=top, shown=shown, most=_most(found, shown),
        threshold=site.settings.summary_threshold or None,
    )  # fmt: skip


def _count(site: ViewedSite, query: ClassicQuery) -> CountedHours:
    with site.lake.reading() as lake:
        start, end = _hours(lake, query)
        days = [day for day in lake.snapshot.days if start.date() <= day <= (end - _HOUR).date()]
        key = ("hours", start, end)
        return site.lake.remembered(lake, key, lambda: _count_hours(lake, start, end, days))


def _count_hours(lake: LakeSession, start: datetime, end: datetime, days: list[Any]) -> CountedHours:
    counts: dict[str, dict[datetime, int]] = {}
    for row in ask_session(lake, "label_counts", days, LabelChoice(by=("hour", "label"))).table.to_pylist():
        hour = row["hour"].astimezone(UTC)
        if start <= hour < end:
            counts.setdefault(row["label"], {})[hour] = row["count"]
    with lake.of_days(days) as tables:
        hours = [hour.astimezone(UTC) for (hour,) in tables.query(_OBSERVED).rows]
    return CountedHours(start, end, counts, frozenset(hour for hour in hours if start <= hour < end))


def _hours(lake: LakeSession, query: ClassicQuery) -> tuple[datetime, datetime]:
    """Returns start and end of a query in UTC."""
    latest = datetime.combine(lake.days[-1], time(), UTC) if lake.days else datetime(1970, 1, 1, tzinfo=UTC)
    try:
        start = _utc(query.start) if query.start else latest
        end = _utc(query.end) if query.end else start + timedelta(days=1)
    except OverflowError:
        raise UsageError("start or end is out of range.", next_step="give times such as 2026-01-09T18:00Z") from None
    if not timedelta() < end - start <= _MOST_HOURS * _HOUR:
        raise UsageError(
            f"The range from {start.isoformat()} to {end.isoformat()} has no hours, or more than {_MOST_HOURS}.",
            next_step="give start and end such as 2026-01-09T18:00Z and 2026-01-09T23:00Z",
        )
    return start, end


def _utc(given: datetime) -> datetime:
    """Returns the start of the hour in UTC; a time without an offset is UTC."""
    aware = given if given.tzinfo else given.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _most(found: CountedHours, labels: list[str]) -> int:
    return max((count for label in labels for count in found.counts.get(label, {}).values()), default=1)
