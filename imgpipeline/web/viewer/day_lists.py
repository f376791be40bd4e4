"""Lists of one day, as pages and in the API: events, objects, dead letters, and accounts of the sources."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pyarrow as pa
from fastapi import APIRouter
from pydantic import Field

from imgpipeline.contracts.times import day_of
from imgpipeline.errors import DeadLetterCode
from imgpipeline.lake.query.books import books_of_session, books_table
from imgpipeline.lake.query.days import Span
from imgpipeline.lake.query.wanted_frames import rows_of_days
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.ledger.dead_letters import BuriedRecord, Wanted, find_dead_letters
from imgpipeline.tracking.unique import least_seen_s, seen_objects
from imgpipeline.web.viewer.answers import utc_days_of
from imgpipeline.web.viewer.queries import ListQuery, Name, Zoned, next_after
from imgpipeline.web.viewer.views import Asked, Part, View, add_views

_TEXT = pa.string()
_LETTERS: Mapping[str, pa.DataType] = {
    "record": _TEXT, "timestamp": pa.timestamp("us", "UTC"), "code": _TEXT, "source": _TEXT, "image_path": _TEXT,
    "message": _TEXT, "state": _TEXT, "became": _TEXT,
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


_Read = Callable[[Asked, Any, date], pa.Table]
"""Returns all rows of a day that match a query, sorted, with the same columns on every day."""


def _day_list(name: str, query: type[ListQuery], read: _Read, about: str) -> View[pa.Table]:
    """Declares a list of a day: `name` is its path, and the name of its rows in the API."""

    def rows_of(asked: Asked) -> pa.Table:
        day = asked.day
        whole = asked.query.model_copy(update={"limit": 0, "after": 0, "format": "json"})
        key = (name, day, whole)  # all pages of a list share its rows
        return asked.remembered(key, lambda: read(asked, asked.query, day))

    def shown(asked: Asked, found: pa.Table) -> pa.Table:
        return found.slice(asked.query.after, asked.query.limit)

    def part(asked: Asked, found: pa.Table) -> Part[Mapping[str, Any]]:
        rows = shown(asked, found).to_pylist(maps_as_pydicts="strict")
        return Part(rows, len(found), next_after(asked.query.after, asked.query.limit, len(found)))

    def page(asked: Asked, found: pa.Table) -> Mapping[str, Any]:
        return {
            "day": asked.day, "days": asked.days, "page": part(asked, found), "codes": list(DeadLetterCode),
            "least_seen_s": least_seen_s(asked.lake, asked.day) if query is ObjectsQuery else None,
        }  # fmt: skip

    def document(asked: Asked, found: pa.Table) -> Mapping[str, Any]:
        of_page = part(asked, found)
        return {"day": asked.day, "matching": of_page.matching, "next": of_page.next, name: of_page.rows}

    def table(asked: Asked, found: pa.Table) -> tuple[str, pa.Table]:
        return f"{name}-{asked.day}", shown(asked, found)

    return View(f"/{name}", query, rows_of, page, document, about, table=table)


def _events(asked: Asked, query: EventsQuery, day: date) -> pa.Table:
    lake = asked.lake
    given = {"source": query.source, "rule": query.rule}
    of_day = rows_of_days(Span(day, day), lake.local)
    chosen = "($source IS NULL OR source = $source) AND ($rule IS NULL OR rule = $rule)"
    return lake.arrow(f'SELECT * FROM events WHERE {of_day} AND {chosen} ORDER BY "timestamp", event_id', given)  # noqa: S608 - own names


def _objects(asked: Asked, query: ObjectsQuery, day: date) -> pa.Table:
    return seen_objects(asked.lake, day, source=query.source, label=query.label)


def _letters(asked: Asked, query: LettersQuery, day: date) -> pa.Table:
    lake = asked.lake
    found = [
        one
        for listed in reversed(utc_days_of(lake, [day]))
        for one in find_dead_letters(asked.site.store, Wanted(query.code, listed, query.source))[0]
        if day == _day_of_letter(lake, one, listed)
    ]
    rows = [
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
    return pa.Table.from_pylist(rows, schema=pa.schema(_LETTERS))


def _day_of_letter(lake: LakeSession, one: BuriedRecord, listed: date) -> date:
    """Returns the day under which a dead letter is listed in the session's time zone, as `DAY_OF_LETTER` does."""
    time = one.letter.timestamp
    return lake.day_of(time) if time is not None and day_of(time) == listed else listed


def _accounts(asked: Asked, query: ListQuery, day: date) -> pa.Table:
    entries = books_of_session(asked.site.store, asked.lake, day, query.source)
    return books_table(entries).append_column("balances", pa.array([one.balances for one in entries], pa.bool_()))


_LISTS = (
    _day_list("events", EventsQuery, _events, "Lists the events of a day by time."),
    _day_list("objects", ObjectsQuery, _objects, "Lists the unique objects of a day with tracks."),
    _day_list("dead-letters", LettersQuery, _letters,
              "Lists the records that could not become frames, the latest first."),
    _day_list("accounts", ListQuery, _accounts,
              "Lists the accounts of each session: frames received, and their outcomes."),
)  # fmt: skip
router = APIRouter(tags=["viewer"])
add_views(router, *_LISTS)
