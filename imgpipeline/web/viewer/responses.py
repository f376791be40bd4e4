"""Builds responses: pages from Jinja2 templates; documents, tables and images with e-tags; and errors."""

import colorsys
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Annotated, Any
from urllib.parse import urlencode
from zlib import crc32

import pyarrow as pa
from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import BaseModel

from imgpipeline import __version__
from imgpipeline.contracts.text import counted, csv_text, plain
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import ConfigurationError, ImgpipelineError, TransientError, UsageError
from imgpipeline.lake.sessions.local_time import in_zone
from imgpipeline.reports.wording import clock, duration, interval, long_day, long_month, moment, number, size, visible
from imgpipeline.web.viewer.site import SharedLake

RETRY_AFTER_S = 2
ARROW_STREAM = "application/vnd.apache.arrow.stream"
TABLES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}, ARROW_STREAM: {}}}}
"""Describes, in the API description, responses that are also available as tables."""
PICTURES: dict[int | str, dict[str, Any]] = {200: {"content": {"image/*": {}}}}
"""Describes responses that are images."""
_FRESH = "no-cache"
"""A browser asks each time, and gets 304 if nothing is new."""
_LASTING = "private, max-age=3600"


class Problem(BaseModel):
    """The body of an error."""

    error: str
    next: str | None = None
    """The next step; missing in routes of the classic dashboard."""


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request cannot be answered. The body gives the reason."},
    503: {"model": Problem, "description": "The store or the tables do not answer. Try again."},
}
"""Describes the errors of all routes."""


def answer_json(request: Request, document: Mapping[str, Any]) -> Response:
    """Returns a document as JSON, or 304 if the client has the same one."""
    body = json.dumps(plain(document), ensure_ascii=False, allow_nan=False).encode()
    return answer_bytes(request, body, "application/json")


def fields_of(value: Any, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Returns the fields of a dataclass with slots by name."""
    return {name: getattr(value, name) for name in value.__slots__ if name not in without}


def answer_table(
    request: Request, wanted: str, name: str, table: pa.Table, csv_columns: Sequence[str] | None = None
) -> Response:
    """Returns rows as a file, or 304 if the client has the same one.

    `csv` has only `csv_columns`, if given; anything else is an Arrow IPC stream.
    """
    if wanted == "csv":
        columns = csv_columns or table.column_names
        rows = table.select(columns).to_pylist(maps_as_pydicts="strict")
        text = csv_text(columns, ([row[column] for column in columns] for row in rows))
        return answer_bytes(request, text.encode(), "text/csv; charset=utf-8", file_name=f"{name}.csv")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return answer_bytes(request, sink.getvalue().to_pybytes(), ARROW_STREAM, file_name=f"{name}.arrows")


def answer_bytes(
    request: Request,
    body: bytes,
    media_type: str,
    *,
    e_tag: str | None = None,
    is_lasting: bool = False,
    file_name: str | None = None,
) -> Response:
    """Returns bytes with an e-tag, or 304 if the client has the same ones.

    The default e-tag is the hash. If `is_lasting`, a browser may cache the bytes for a while without asking.
    """
    tag = f'"{e_tag or sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": _LASTING if is_lasting else _FRESH}
    if file_name:
        headers["Content-Disposition"] = f'attachment; filename="{file_name}"'
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def status_of(error: ImgpipelineError) -> int:
    """Returns the HTTP status of an error: 400 wrong request, 404 not found, 503 try again, 500 fault."""
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, ConfigurationError):
        return 404
    return 503 if isinstance(error, TransientError) else 500


def error_json(status: int, message: str, next_step: str | None) -> JSONResponse:
    """Returns an error of the API."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return JSONResponse({"error": message, "next": next_step}, status, headers)


STATIC = resources.files("imgpipeline.web.viewer").joinpath("static")
"""Folder of the style sheet and the ES module."""
_TITLES = {
    400: "The request is not valid",
    404: "Not found",
    405: "Method not allowed",
    500: "Internal error",
    503: "Temporarily unavailable",
}


_GOLDEN_ANGLE_TURNS = 0.381966
"""Gives consecutive labels very different hues."""


class Renderer:
    """Renders pages. Untrusted text is escaped, and control characters are made visible."""

    def __init__(self, lake: SharedLake) -> None:
        """Loads the templates.

        Args:
            lake: Every page shows its state.
        """
        self._lake = lake
        self._environment = Environment(
            loader=PackageLoader("imgpipeline.web.viewer"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            visible=visible, number=number, interval=interval, size=size, duration=duration, clock=clock, moment=moment,
            long_day=long_day, long_month=long_month, in_zone=frame_time,
            day_in=day_in, colour=self.colour, ago=ago, counted=counted, noun=noun, with_code=with_code,
        )  # fmt: skip
        site_zone = lake.settings.timezone
        # For links to pages by UTC day, from pages that show days of the site's zone.
        utc_only = None if site_zone == "UTC" else "UTC"
        self._environment.globals.update(
            url=url, static=static_url, version=__version__, site_zone=site_zone, utc_only=utc_only,
            has_targets=bool(lake.settings.alert_targets),
        )  # fmt: skip

    def colour(self, label: str) -> str:
        """Returns the colour of a label: the same on all pages, and unlike those of labels that appeared with it."""
        labels = self._lake.state.labels
        place = labels.index(label) if label in labels else crc32(label.encode())  # of another model, or unknown
        red, green, blue = colorsys.hsv_to_rgb((0.36 + place * _GOLDEN_ANGLE_TURNS) % 1, 0.72, 0.98)
        return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Returns a page; `values` are the variables of the template."""
        shown = self._environment.get_template(template).render(state=self._lake.state, **values)
        return HTMLResponse(shown, status, {"Cache-Control": "no-cache"})

    def error(self, status: int, message: str, next_step: str | None) -> HTMLResponse:
        """Returns the page of an error. If trying again helps, the browser reloads it."""
        page = self.page(
            "error.html", status=status, code=status, title=_TITLES.get(status, "Request failed"), message=message,
            next_step=next_step,
        )  # fmt: skip
        if status == 503:
            page.headers["Refresh"] = page.headers["Retry-After"] = str(RETRY_AFTER_S)
        return page


async def _renderer_of(request: Request) -> Renderer:
    renderer: Renderer = request.app.state.renderer
    return renderer


Pages = Annotated[Renderer, Depends(_renderer_of)]
"""The renderer, as an argument of a route."""


def with_code(text: str, most: int | None = None) -> Markup:
    """Returns untrusted text as HTML; parts between backticks become code."""
    parts = visible(text, most).split("`")
    last = len(parts) - 1  # plain text, also after an unpaired backtick
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 and at < last else escape(part)
        for at, part in enumerate(parts)
    )


def noun(number: int, singular: str) -> str:
    """Returns a noun in the form for a number, for texts that format the number differently."""
    return singular if number == 1 else f"{singular}s"


def url(path: str, **parameters: object) -> str:
    """Returns a URL of this site without the parameters that are None."""
    given = {name: str(value) for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def frame_time(time: datetime, zone: str, day: date | None = None) -> str:
    """Returns a time in a time zone, with its offset unless it is UTC: `13:00:05 +01:00`.

    A time on `day`, which the page shows anyway, has no date.
    """
    local = in_zone(time, find_timezone(zone))
    shown = clock(local, local.tzinfo or UTC) if local.date() == day else moment(local, local.tzinfo or UTC)
    return shown if zone == "UTC" else f"{shown} {local.strftime('%z')[:3]}:{local.strftime('%z')[3:5]}"


def day_in(time: datetime, zone: str) -> date:
    """Returns the day of a time in a time zone."""
    return in_zone(time, find_timezone(zone)).date()


@cache
def static_url(name: str) -> str:
    """Returns the URL of a static file. It changes with the content, so browsers may cache the file."""
    digest = sha256(STATIC.joinpath(name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def ago(time: datetime, now: datetime) -> str:
    """Returns the age of a time, such as `3 min 20 s ago`."""
    passed_s = (now.astimezone(UTC) - time.astimezone(UTC)).total_seconds()
    return f"{duration(round(passed_s))} ago" if passed_s >= 1 else "now"
