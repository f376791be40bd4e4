"""Responses with e-tags, and the one form of errors of the API."""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import pyarrow as pa
from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from imgpipeline.contracts.text import csv_text, plain
from imgpipeline.errors import ConfigurationError, ImgpipelineError, TransientError, UsageError

RETRY_AFTER_S = 2
ARROW_STREAM = "application/vnd.apache.arrow.stream"
TABLES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}, ARROW_STREAM: {}}}}
"""What routes say of their answers that are tables too, for the description of the API."""
PICTURES: dict[int | str, dict[str, Any]] = {200: {"content": {"image/*": {}}}}
"""What routes say of their answers that are images."""
_FRESH = "no-cache"
"""A browser asks again each time, and gets 304 while nothing is new."""
_LASTING = "private, max-age=3600"


class Problem(BaseModel):
    """The body of an error."""

    error: str
    """What is wrong."""
    next: str | None = None
    """What to do about it; the routes of the classic dashboard do not say."""


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Problem, "description": "The request cannot be answered; the body says why."},
    503: {"model": Problem, "description": "The store or the tables do not answer now; ask again."},
}
"""The errors of all routes, for the description of the API."""


def answer_json(request: Request, document: Mapping[str, Any]) -> Response:
    """Returns a document as JSON, or 304 if the client has it."""
    body = json.dumps(plain(document), ensure_ascii=False, allow_nan=False).encode()
    return answer_bytes(request, body, "application/json")


def answer_csv(request: Request, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """Returns rows as a CSV file, or 304 if the client has it."""
    return answer_bytes(request, csv_text(columns, rows).encode(), "text/csv; charset=utf-8", file_name=f"{name}.csv")


def answer_arrow(request: Request, name: str, table: pa.Table) -> Response:
    """Returns rows as an Arrow IPC stream, or 304 if the client has it."""
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
    """Returns bytes with an e-tag, or 304 if the client has them.

    Args:
        request: What the client sent.
        body: The content.
        media_type: Its type.
        e_tag: Names the content; default: its hash.
        is_lasting: Whether a browser may keep it for a while without asking.
        file_name: What a browser calls it when it is saved.
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
    """Returns the HTTP status for an error: 400 a wrong question, 404 nothing there, 503 try again, 500 a fault."""
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, ConfigurationError):
        return 404
    return 503 if isinstance(error, TransientError) else 500


def error_json(status: int, message: str, next_step: str | None) -> JSONResponse:
    """Returns an error of the API."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    return JSONResponse({"error": message, "next": next_step}, status, headers)
