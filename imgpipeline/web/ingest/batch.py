"""Batches: one JSON document a line (NDJSON), published line by line while the body is still arriving."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import HTTPException, Request

from imgpipeline.web.ingest.bodies import chunks
from imgpipeline.web.ingest.frames import FrameDesk, read_line

LINES = "application/x-ndjson"
"""Content type of a batch."""
_OTHER_FIELDS_BYTES = 64 * 2**10


async def read_lines(
    request: Request, image_limit_bytes: int, desk: FrameDesk, source: str
) -> AsyncIterator[dict[str, Any]]:
    """Publishes the frames of a batch and yields the result of each line; empty lines are skipped.

    Raises:
        HTTPException: 413, a line is longer than an image may be; 408, nothing arrived for 30 s.
        ClientDisconnect: The client vanished; the lines that had arrived whole are announced.
    """
    limit_bytes = 4 * image_limit_bytes // 3 + _OTHER_FIELDS_BYTES
    rest = b""
    async for chunk in chunks(request):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield await _publish(desk, source, line)
        if len(rest) > limit_bytes:
            raise HTTPException(413, f"a line has more than {limit_bytes} bytes", {"Connection": "close"})
    if rest.strip():
        yield await _publish(desk, source, rest)


async def _publish(desk: FrameDesk, source: str, line: bytes) -> dict[str, Any]:
    try:
        return {"code": 201, **await desk.publish(source, read_line(line))}
    except HTTPException as error:
        return {"code": error.status_code, "detail": error.detail}
