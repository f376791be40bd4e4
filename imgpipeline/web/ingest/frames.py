"""Reads posted images, one or a batch, publishes them, and answers when their frames are stored and announced.

Bodies are limited in size, in memory for all requests together, and in the time between two chunks.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.message_fields import (
    check_storable,
    load_object,
    read_attributes,
    read_count,
    read_image,
    read_timestamp,
)
from imgpipeline.contracts.outcomes import make_frame_id
from imgpipeline.contracts.templates import ImageKeyTemplate
from imgpipeline.contracts.times import Clock, format_time, parse_time
from imgpipeline.errors import BadInputError, ImgpipelineError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.sources.ingest import IngestSessions
from imgpipeline.sources.protocol import CapturedFrame, Settled
from imgpipeline.sources.storing import content_name, ending_of, first_received
from imgpipeline.vision.decode import ImageLimits, check_undecoded

_CHUNK_LIMIT_S = 30.0
"""Longest wait for the next part of a body."""
MOST_AT_A_TIME = 32
"""Frames in flight; each occupies a thread while it waits for its turn."""
_ANSWER_S = 30.0


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
        raise HTTPException(413, f"the body has {size_bytes} bytes, the limit is {limit_bytes}")
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
            raise HTTPException(413, f"the body has more than {limit_bytes} bytes")
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


@dataclass(frozen=True, slots=True)
class PostedFrame:
    """An image with the description that its client gave."""

    data: bytes
    timestamp: datetime | None
    """Its own time, UTC; None: its content identifies it."""
    number: int | None
    attributes: Mapping[str, Any]
    idempotency_key: str | None = None
    """Distinguishes images of the same content; the same key and content are one frame."""


def described(data: bytes, given: Mapping[str, str]) -> PostedFrame:
    """Returns an image with the `timestamp`, `number` and `attributes` of its headers or query.

    Raises:
        HTTPException: 422, a field is not valid.
    """
    try:
        attributes = json.loads(given.get("attributes") or "{}")
        if not isinstance(attributes, dict):
            raise ValueError("expected a JSON object")
        check_storable(attributes)
    except (ValueError, RecursionError, BadInputError) as error:
        raise HTTPException(422, f"attributes: {error}") from None
    number = given.get("number", "")
    if number and not (number.isdecimal() and number.isascii() and len(number) < 20 and int(number) < 2**63):
        raise HTTPException(422, f"number: got {number[:30]!r}, expected a whole number from 0")
    try:
        timestamp = parse_time(given["timestamp"]) if given.get("timestamp") else None
    except (ValueError, OverflowError):
        raise HTTPException(422, "timestamp: expected an RFC 3339 time such as 2026-01-09T12:00:00Z") from None
    return PostedFrame(data, timestamp, int(number) if number else None, attributes, given.get("idempotency_key"))


def read_line(line: bytes) -> PostedFrame:
    """Reads a line of a batch: `{"image": base64, "timestamp", "number", "attributes", "idempotency_key"}`.

    Raises:
        HTTPException: 422, a field is not valid.
    """
    known = {"image", "timestamp", "number", "attributes", "idempotency_key"}
    try:
        document = load_object(line)
        data, timestamp, number = read_image(document), read_timestamp(document), read_count(document, "number")
        attributes = read_attributes(document, known)
    except BadInputError as error:
        raise HTTPException(422, error.message) from None
    key = document.get("idempotency_key")
    return PostedFrame(data, timestamp, number, attributes, None if key is None else str(key))


class FrameDesk:
    """Publishes posted frames, and answers when they are safe."""

    def __init__(
        self,
        publishers: IngestSessions,
        store: ObjectStore,
        template: ImageKeyTemplate,
        clock: Clock,
        limits: ImageLimits,
        *,
        changes_images: bool = False,
    ) -> None:
        """Takes where images go, their keys and limits, and whether masks or sizes change them."""
        self._limits = limits
        self._changes_images = changes_images
        self._template = template
        self._publishers = publishers
        self._store = store
        self._clock = clock
        self._places = asyncio.Semaphore(MOST_AT_A_TIME)

    async def publish(self, source: str, posted: PostedFrame) -> dict[str, Any]:
        """Stores and announces a frame, and returns its description.

        Raises:
            HTTPException: 503, store or Kafka is away (sending the frame again counts once); 422, the image is invalid.
        """
        async with self._places:
            loop = asyncio.get_running_loop()
            fate: asyncio.Future[Settled] = loop.create_future()

            def settle(how: Settled) -> None:
                loop.call_soon_threadsafe(lambda: None if fate.done() else fate.set_result(how))

            try:
                async with asyncio.timeout(_ANSWER_S):
                    frame = await run_in_threadpool(self._offer, source, posted, settle)
                    how = await fate
            except TimeoutError:
                detail = "store or Kafka do not answer; send the frame again, it counts once"
                raise HTTPException(503, detail, {"Retry-After": "5"}) from None
            except ImgpipelineError as error:
                raise HTTPException(503, error.message, {"Retry-After": "5"}) from None
        if how is Settled.DROPPED:
            raise HTTPException(503, "the frame was not announced; send it again", {"Retry-After": "5"})
        if how is Settled.FAILED:
            raise HTTPException(422, "the image cannot be decoded, so the configured mask cannot be painted")
        return {**self._description(source, frame), "status": str(how)}

    def _offer(self, source: str, posted: PostedFrame, settle: Callable[[Settled], None]) -> CapturedFrame:
        """Checks, makes and offers a frame in one thread: a change of threads costs as much as the PUT."""
        try:
            check_undecoded(posted.data, self._limits)
        except BadInputError as error:
            raise HTTPException(422, f"the image cannot be read: {error.message}") from None
        frame = self._frame_of(source, posted, sha256(posted.data).hexdigest())
        self._publishers.offer(source, replace(frame, settle=settle))
        return frame

    def _frame_of(self, source: str, posted: PostedFrame, digest: str) -> CapturedFrame:
        now, name = self._clock(), content_name(posted.data, digest)
        is_keyed = posted.timestamp is None and bool(posted.idempotency_key)
        if is_keyed:
            keyed = sha256(f"{posted.idempotency_key}\0".encode() + posted.data).hexdigest()[:32]
            name = f"{keyed}{ending_of(posted.data)}"
        frame = CapturedFrame(
            posted.timestamp or now,
            ClockSource.PRODUCER if posted.timestamp else ClockSource.RECEIVER,
            data=posted.data,
            sha256=digest,
            name=name,
            number=posted.number,
            attributes=posted.attributes,
            received=now,
            has_own_timestamp=posted.timestamp is not None,
        )
        if is_keyed:
            return replace(frame, timestamp=first_received(self._store, self._template, source, frame))
        return frame

    def _description(self, source: str, frame: CapturedFrame) -> dict[str, Any]:
        digest = frame.sha256 or ""
        key = self._template.key(source, frame.timestamp, digest, name=frame.name, number=frame.number)
        number: int | str = key if frame.number is None else frame.number
        # The key and hash of an image that is stored with masks or in another size are not known here.
        stored = {} if self._changes_images else {"image": key, "sha256": digest}
        is_known = frame.has_own_timestamp and not (self._changes_images and frame.number is None)
        return {
            "source": source,
            **stored,
            "timestamp": format_time(frame.timestamp),
            "number": frame.number,
            "frame_id": make_frame_id(source, frame.timestamp, number) if is_known else None,
        }


LINES = "application/x-ndjson"
"""Content type of a batch."""
_OTHER_FIELDS_BYTES = 64 * 2**10


async def read_lines(
    request: Request, image_limit_bytes: int, desk: FrameDesk, source: str
) -> AsyncIterator[dict[str, Any]]:
    """Publishes each frame of a batch while the body still arrives, and yields its result; skips empty lines.

    Raises:
        HTTPException: 413, a line is longer than an image may be; 408, nothing arrived for 30 s.
        ClientDisconnect: The client disconnected; the complete lines are announced.
    """
    limit_bytes = 4 * image_limit_bytes // 3 + _OTHER_FIELDS_BYTES
    rest = bytearray()
    async for chunk in chunks(request):
        rest += chunk
        if b"\n" in chunk:
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            for line in lines:
                if line.strip():
                    yield await _publish(desk, source, line)
        if len(rest) > limit_bytes:
            raise HTTPException(413, f"a line has more than {limit_bytes} bytes")
    if rest.strip():
        yield await _publish(desk, source, bytes(rest))


async def _publish(desk: FrameDesk, source: str, line: bytes) -> dict[str, Any]:
    try:
        return {"code": 201, **await desk.publish(source, read_line(line))}
    except HTTPException as error:
        return {"code": error.status_code, "detail": error.detail}
