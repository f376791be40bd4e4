"""Lists of one day, as pages and in the API: events, objects, dead letters, and accounts of the sources."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa
from fastapi import APIRouter
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
from imgpipeline.web.viewer.answers import utc_days_of
from imgpipeline.web.viewer.queries import ListQuery, Name, Zoned
from imgpipeline.web.viewer.responses import fields_of
from imgpipeline.web.viewer.views import Asked, View, add_views, part_of

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


_Read = Callable[[Asked, Any, date], Sequence[_Row]]
"""Returns all rows of a day that match a query, sorted."""


def _day_list(
    name: str, query: type[ListQuery], read: _Read, columns: Callable[[LakeSession], pa.Schema], about: str
) -> View[Sequence[_Row]]:
    """Declares a list of a day: `name` is its path, and the name of its rows in the API.

    `columns` returns its columns as CSV and Arrow, the same on every day.
    """

    def rows_of(asked: Asked) -> Sequence[_Row]:
        day = asked.day
        whole = asked.query.model_copy(update={"limit": 0, "after": 0, "format": "json"})
        key = (name, day, whole)  # all pages of a list share its rows
        return asked.site.lake.remembered(asked.lake, key, lambda: read(asked, asked.query, day))

    def page(asked: Asked, found: Sequence[_Row]) -> Mapping[str, Any]:
        shown = part_of(found, asked.query)
        return {"day": asked.day, "days": asked.days, "page": shown, "codes": list(DeadLetterCode)}

    def document(asked: Asked, found: Sequence[_Row]) -> Mapping[str, Any]:
        part = part_of(found, asked.query)
        rows = [plain(row) for row in part.rows]
        return {"day": asked.day, "matching": part.matching, "next": part.next, name: rows}

    def table(asked: Asked, found: Sequence[_Row]) -> tuple[str, pa.Table]:
        rows = list(part_of(found, asked.query).rows)
        return f"{name}-{asked.day}", pa.Table.from_pylist(rows, schema=columns(asked.lake))

    return View(f"/{name}", query, rows_of, page, document, about, table=table)


def _events(asked: Asked, query: EventsQuery, day: date) -> list[_Row]:
    lake = asked.lake
    wanted = {"source": query.source, "rule": query.rule}
    chosen = "".join(f" AND {name} = ${name}" for name, value in wanted.items() if value is not None)
    given = {name: value for name, value in wanted.items() if value is not None}
    of_day = rows_of_days(Span(day, day), lake.local)
    answer = lake.query(f'SELECT * FROM events WHERE {of_day}{chosen} ORDER BY "timestamp", event_id', given)  # noqa: S608 - own names
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _event_columns(lake: LakeSession) -> pa.Schema:
    return lake.arrow("SELECT * FROM events LIMIT 0").schema


def _objects(asked: Asked, query: ObjectsQuery, day: date) -> Sequence[_Row]:
    least_s = asked.site.settings.unique_min_s
    found = seen_objects(asked.lake, day, source=query.source, label=query.label, least_s=least_s)
    rows: Sequence[_Row] = found.to_pylist()
    return rows


def _object_columns(lake: LakeSession) -> pa.Schema:
    return seen_objects(lake, date.min, least_s=0).schema


def _letters(asked: Asked, query: LettersQuery, day: date) -> list[_Row]:
    lake = asked.lake
    found = [
        one
        for listed in reversed(utc_days_of(lake, [day]))
        for one in find_dead_letters(asked.site.store, Wanted(query.code, listed, query.source))[0]
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


def _accounts(asked: Asked, query: ListQuery, day: date) -> list[_Row]:
    entries = books_of_session(asked.site.store, asked.lake, day, query.source)
    return [{**fields_of(entry), "balances": entry.balances} for entry in entries]


_LISTS = (
    _day_list("events", EventsQuery, _events, _event_columns, "Lists the events of a day by time."),
    _day_list("objects", ObjectsQuery, _objects, _object_columns, "Lists the unique objects of a day with tracks."),
    _day_list("dead-letters", LettersQuery, _letters, lambda _: pa.schema(_LETTER),
              "Lists the records that could not become frames, the latest first."),
    _day_list("accounts", ListQuery, _accounts, lambda _: pa.schema(_ACCOUNT),
              "Lists the accounts of each session: frames received, and their outcomes."),
)  # fmt: skip


router = APIRouter(tags=["viewer"])
add_views(router, *_LISTS)
