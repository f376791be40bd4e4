"""Reads request bodies, with limits on the size of each, on their memory in total, and on the time between chunks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import HTTPException, Request

_CHUNK_LIMIT_S = 30.0


class BodyBudget:
    """Memory for the bodies of all requests. Only the thread of the event loop may use it."""

    def __init__(self, size_bytes: int) -> None:
        """Sets how many bytes all bodies may have in total."""
        self._free = size_bytes

    @asynccontextmanager
    async def reserved(self, size_bytes: int) -> AsyncIterator[None]:
        """Reserves memory while the context lasts.

        Raises:
            HTTPException: 503, not enough memory is free.
        """
        if size_bytes > self._free:
            raise HTTPException(503, "too many images are in flight; send the image again", {"Retry-After": "2"})
        self._free -= size_bytes
        try:
            yield
        finally:
            self._free += size_bytes


def announced_size(request: Request, limit_bytes: int) -> int:
    """Returns the size of a body by its Content-Length, or the limit if there is none.

    Raises:
        HTTPException: 413, the Content-Length is above the limit; the body is not read.
    """
    announced = request.headers.get("content-length", "")
    size_bytes = int(announced) if announced.isdecimal() and len(announced) < 20 else limit_bytes
    if size_bytes > limit_bytes:
        raise HTTPException(
            413, f"the body has {size_bytes} bytes, the limit is {limit_bytes}", {"Connection": "close"}
        )
    return size_bytes


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """Reads a whole body.

    Raises:
        HTTPException: 413, the body is larger than the limit; 408, nothing arrived for 30 s.
        ClientDisconnect: The client disconnected.
    """
    data = bytearray()
    async for chunk in chunks(request):
        data += chunk
        if len(data) > limit_bytes:
            raise HTTPException(413, f"the body has more than {limit_bytes} bytes", {"Connection": "close"})
    return bytes(data)


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """Yields a body chunk by chunk; errors as `read_body`, except 413."""
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(_CHUNK_LIMIT_S):
                chunk = await anext(stream, None)
        except TimeoutError:
            raise HTTPException(408, f"no byte of the body arrived for {_CHUNK_LIMIT_S:g} s") from None
        if chunk is None:
            return
        yield chunk
