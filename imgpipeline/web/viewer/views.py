"""Declares what the viewer can be asked: one `View` is a page, its route in the API, and the parameters of both."""

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Generic, TypeVar

import pyarrow as pa
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.web.viewer.access import Visitor
from imgpipeline.web.viewer.answers import day_counts, known_day
from imgpipeline.web.viewer.queries import UrlQuery, Zoned, next_after
from imgpipeline.web.viewer.responses import TABLES, Pages, Renderer, answer_json, answer_table
from imgpipeline.web.viewer.site import ViewedSite

AnswerT = TypeVar("AnswerT")
FoundT = TypeVar("FoundT")
RowT = TypeVar("RowT")
_API = "/api/v1"


class Asked:
    """A request for a view."""

    def __init__(self, request: Request, query: Any, closing: contextlib.ExitStack) -> None:
        """Keeps the request; the session opens when it is first used, so a view without numbers needs no tables.

        Args:
            request: The request; pages and the API have different default time zones.
            query: Its checked parameters.
            closing: Closes the session at the end of the request.
        """
        self.site: ViewedSite = request.app.state.site
        self.query = query
        self.visitor: Visitor = request.state.visitor
        self.is_page = not request.url.path.startswith("/api/")
        requested = query.timezone if isinstance(query, Zoned) else "UTC"
        self.zone: str = requested or (self.site.settings.timezone if self.is_page else "UTC")
        self._closing = closing
        self._lake: LakeSession | None = None

    @property
    def lake(self) -> LakeSession:
        """The session in the time zone of the request."""
        if self._lake is None:
            self._lake = self._closing.enter_context(self.site.lake.reading(self.zone))
        return self._lake

    @property
    def day(self) -> date:
        """The requested day, or the latest one; errors as `known_day`."""
        return known_day(self.lake, self.query.day)

    @property
    def days(self) -> list[dict[str, Any]]:
        """All days with their counts, for the form that chooses one."""
        return self.remembered("days", lambda: day_counts(self.lake))

    def remembered(self, key: Hashable, make: Callable[[], AnswerT]) -> AnswerT:
        """Returns `SharedLake.remembered` for the session of the request."""
        return self.site.lake.remembered(self.lake, key, make)


@dataclass(frozen=True, slots=True)
class View(Generic[FoundT]):
    """Something to ask for. Without `page` it has no page, and without `document` no route in the API."""

    path: str
    """Path of the page, which names its template; and of the route below `/api/v1`."""
    query: type[UrlQuery]
    read: Callable[[Asked], FoundT]
    """Answers the question, for both."""
    page: Callable[[Asked, FoundT], Mapping[str, Any]] | None = None
    """Returns the variables of the template besides `query` and `zone`."""
    document: Callable[[Asked, FoundT], Mapping[str, Any]] | None = None
    """Returns the JSON document."""
    about: str = ""
    api: str | None = None
    """Path of the route, if it is another one."""
    api_query: type[UrlQuery] | None = None
    """The parameters of the route, if they are others."""
    table: Callable[[Asked, FoundT], tuple[str, pa.Table]] | None = None
    """Returns a file name and the rows, for `format=csv` and `format=arrow`."""
    csv_columns: Sequence[str] | None = None
    """The columns as CSV, if not all."""


def add_views(router: APIRouter, *views: View[Any]) -> None:
    """Adds the page of each view, and its route in the API."""
    for view in views:
        if view.page:
            _add_page(router, view)
        if view.document:
            add_route(router, view)


def _add_page(router: APIRouter, view: View[Any]) -> None:
    kind = view.query

    @router.get(view.path, include_in_schema=False, response_class=HTMLResponse)
    def page(request: Request, pages: Pages, query: Annotated[kind, Query()]) -> Response:  # type: ignore[valid-type]  # FastAPI reads it
        return page_of(view, request, query, pages)


def page_of(view: View[Any], request: Request, query: UrlQuery, pages: Renderer) -> Response:
    """Returns the page of a view."""
    with _asked(request, query) as asked:
        shown = view.page(asked, view.read(asked)) if view.page else {}
    template = f"{view.path.strip('/').replace('/', '-')}.html"
    return pages.page(template, **{"query": query, "zone": asked.zone, **shown})


def add_route(router: APIRouter, view: View[Any]) -> None:
    """Adds only the route of a view to the API."""
    path, kind = view.api or view.path, view.api_query or view.query
    name = path.strip("/").replace("/", "_").replace("-", "_")
    responses = TABLES if view.table else None

    @router.get(f"{_API}{path}", name=name, description=view.about, responses=responses)
    def api(request: Request, query: Annotated[kind, Query()]) -> Response:  # type: ignore[valid-type]  # FastAPI reads it
        with _asked(request, query) as asked:
            found = view.read(asked)
            wanted = asked.query.format if view.table else "json"
            if view.table and wanted != "json":
                file_name, table = view.table(asked, found)
                return answer_table(request, wanted, file_name, table, view.csv_columns)
            document = view.document(asked, found) if view.document else {}
        return answer_json(request, document)


@contextlib.contextmanager
def _asked(request: Request, query: object) -> Iterator[Asked]:
    with contextlib.ExitStack() as closing:
        yield Asked(request, query, closing)


@dataclass(frozen=True, slots=True)
class Part(Generic[RowT]):
    """A page of a list."""

    rows: Sequence[RowT]
    matching: int
    next: int | None
    """`after` of the next page; None on the last one."""


def part_of(rows: Sequence[RowT], query: Any) -> Part[RowT]:
    """Returns the rows that the `after` and `limit` of a query choose."""
    return Part(
        rows[query.after : query.after + query.limit], len(rows), next_after(query.after, query.limit, len(rows))
    )
