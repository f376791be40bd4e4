"""Lists of one day, as pages and in the API: events, objects, dead letters, and accounts of the sources."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import Field

from imgpipeline.contracts.text import plain
from imgpipeline.contracts.times import day_of
from imgpipeline.errors import DeadLetterCode
from imgpipeline.lake.query.books import books_of_session
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.tracks import seen_objects
from imgpipeline.lake.query.wanted_frames import rows_of_days
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.ledger.dead_letters import BuriedRecord, Wanted, find_dead_letters
from imgpipeline.web.viewer.answers import days_with_counts, known_day, utc_days_of
from imgpipeline.web.viewer.queries import ListQuery, Name, Zoned, next_after, read_query
from imgpipeline.web.viewer.responses import TABLES, Renderer, answer_arrow, answer_csv, answer_json, fields_of
from imgpipeline.web.viewer.site import ViewedSite

_Row = Mapping[str, Any]
_TEXT, _COUNT = pa.string(), pa.int64()
_LETTER: Mapping[str, pa.DataType] = {
    "record": _TEXT, "timestamp": pa.timestamp("us", "UTC"), "code": _TEXT, "source": _TEXT, "image_path": _TEXT,
    "message": _TEXT, "state": _TEXT, "became": _TEXT,
}  # fmt: skip
_ACCOUNT: Mapping[str, pa.DataType] = {
    "day": pa.date32(), "source": _TEXT, "session": _TEXT, "topic": _TEXT, "topic_id": _TEXT, "partition": _COUNT,
    "state": _TEXT, "received": _COUNT, "announced": _COUNT, "in_ledger": _COUNT, "duplicates": _COUNT,
    "dead_letters": _COUNT, "open": _COUNT, "gated": _COUNT, "dropped": pa.map_(_TEXT, _COUNT), "failed": _COUNT,
    "unaccounted": _COUNT, "waiting": _COUNT, "difference": _COUNT, "observed_s": pa.float64(), "balances": pa.bool_(),
}  # fmt: skip


class EventsQuery(Zoned, ListQuery):
    """Filters for events."""

    rule: Name | None = Field(None, description="Only events of this rule.")


class LettersQuery(Zoned, ListQuery):
    """Filters for dead letters."""

    code: DeadLetterCode | None = Field(None, description="Only dead letters with this code.")


class ObjectsQuery(ListQuery):
    """Filters for objects."""

    label: Name | None = Field(None, description="Only objects of this label.")


class AccountsQuery(ListQuery):
    """Filters for sessions of sources."""


@dataclass(frozen=True, slots=True)
class DayList:
    """One kind of list."""

    name: str
    """Its path, and the name of its template and of its rows in the API."""
    query: type[ListQuery]
    """Type of its parameters."""
    read: Callable[[ViewedSite, LakeSession, Any, date], Sequence[_Row]]
    """Returns all matching rows of a day, sorted."""
    columns: Callable[[LakeSession], pa.Schema]
    """Returns its columns as CSV and Arrow, the same on every day."""
    about: str
    """Its API description."""


def day_list_routes(site: ViewedSite, renderer: Renderer) -> APIRouter:
    """Returns the routes."""
    router = APIRouter(tags=["viewer"])
    for one in _LISTS:
        _add(router, site, renderer, one)
    return router


def _add(router: APIRouter, site: ViewedSite, renderer: Renderer, one: DayList) -> None:
    kind = one.query

    def rows_of(lake: LakeSession, query: ListQuery, day: date) -> Sequence[_Row]:
        whole = query.model_copy(
            update={"limit": 0, "after": 0, "format": "json"}
        )  # all pages of a list share its rows
        return site.lake.remembered(lake, (one.name, day, whole), partial(one.read, site, lake, query, day))

    @router.get(f"/api/v1/{one.name}", description=one.about, responses=TABLES)
    def api(request: Request, query: Annotated[kind, Query()]) -> Response:  # type: ignore[valid-type]  # FastAPI reads it
        with site.lake.reading(getattr(query, "timezone", None)) as lake:
            day = known_day(lake, query.day)  # type: ignore[attr-defined]  # a ListQuery
            found = rows_of(lake, query, day)
            page = _Page.of(found, query)
            columns = one.columns(lake)
        if query.format == "arrow":  # type: ignore[attr-defined]  # a ListQuery
            return answer_arrow(request, f"{one.name}-{day}", pa.Table.from_pylist(list(page.rows), schema=columns))
        if query.format == "csv":  # type: ignore[attr-defined]  # a ListQuery
            rows = ([row[name] for name in columns.names] for row in page.rows)
            return answer_csv(request, f"{one.name}-{day}", columns.names, rows)
        shown = [plain(row) for row in page.rows]
        return answer_json(request, {"day": day, "matching": page.matching, "next": page.next, one.name: shown})

    @router.get(f"/{one.name}", include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request) -> Response:
        query = read_query(kind, request)
        zone = site.page_zone(query) if isinstance(query, Zoned) else "UTC"
        with site.lake.reading(zone) as lake:
            day = known_day(lake, query.day)
            found = rows_of(lake, query, day)
            days = days_with_counts(site, lake)
        shown = _Page.of(found, query)
        return renderer.page(
            f"{one.name}.html", day=day, days=days, query=query, page=shown, codes=list(DeadLetterCode), zone=zone
        )


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of a list."""

    rows: Sequence[_Row]
    """Its rows, sorted."""
    matching: int
    """Number of rows on all pages."""
    next: int | None
    """`after` of the next page; None on the last one."""

    @classmethod
    def of(cls, rows: Sequence[_Row], query: Any) -> "_Page":
        shown = rows[query.after : query.after + query.limit]
        return cls(shown, len(rows), next_after(query.after, query.limit, len(rows)))


def _events(_site: ViewedSite, lake: LakeSession, query: EventsQuery, day: date) -> list[_Row]:
    wanted = {"source": query.source, "rule": query.rule}
    chosen = "".join(f" AND {name} = ${name}" for name, value in wanted.items() if value is not None)
    given = {name: value for name, value in wanted.items() if value is not None}
    of_day = rows_of_days(Span(day, day), lake.local)
    answer = lake.query(f'SELECT * FROM events WHERE {of_day}{chosen} ORDER BY "timestamp", event_id', given)  # noqa: S608 - own names
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _event_columns(lake: LakeSession) -> pa.Schema:
    return lake.arrow("SELECT * FROM events LIMIT 0").schema


def _objects(site: ViewedSite, lake: LakeSession, query: ObjectsQuery, day: date) -> Sequence[_Row]:
    least_s = site.settings.unique_min_s
    rows: Sequence[_Row] = seen_objects(lake, day, source=query.source, label=query.label, least_s=least_s).to_pylist()
    return rows


def _object_columns(lake: LakeSession) -> pa.Schema:
    return seen_objects(lake, date.min, least_s=0).schema


def _letters(site: ViewedSite, lake: LakeSession, query: LettersQuery, day: date) -> list[_Row]:
    found = [
        one
        for listed in reversed(utc_days_of(lake, [day]))
        for one in find_dead_letters(site.store, Wanted(query.code, listed, query.source))[0]
        if day == _day_of_letter(lake, one, listed)
    ]
    return [
        {
            "record": str(one.reference),
            "timestamp": one.letter.timestamp,
            "code": one.letter.code.value,
            "source": one.letter.source,
            "image_path": one.letter.image_path,
            "message": one.letter.message,
            "state": one.state.value,
            "became": str(one.became) if one.became else None,
        }
        for one in found
    ]


def _day_of_letter(lake: LakeSession, one: BuriedRecord, listed: date) -> date:
    """Returns the day under which a dead letter is listed in the session's time zone, as `DAY_OF_LETTER` does."""
    time = one.letter.timestamp
    return lake.day_of(time) if time is not None and day_of(time) == listed else listed


def _accounts(site: ViewedSite, lake: LakeSession, query: AccountsQuery, day: date) -> list[_Row]:
    entries = books_of_session(site.store, lake, day, query.source)
    return [{**fields_of(entry), "balances": entry.balances} for entry in entries]


_LISTS = (
    DayList("events", EventsQuery, _events, _event_columns, "Lists the events of a day by time."),
    DayList("objects", ObjectsQuery, _objects, _object_columns, "Lists the unique objects of a day with tracks."),
    DayList(
        "dead-letters",
        LettersQuery,
        _letters,
        lambda _: pa.schema(_LETTER),
        "Lists the records that could not become frames, the latest first.",
    ),
    DayList(
        "accounts",
        AccountsQuery,
        _accounts,
        lambda _: pa.schema(_ACCOUNT),
        "Lists the accounts of each session: frames received, and their outcomes.",
    ),
)
