"""Frames identified by their content, because they arrive without a time: the same content is one frame per day."""

from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from typing import Protocol

from imgpipeline.contracts.image_keys import ImageKeyTemplate
from imgpipeline.contracts.times import day_of
from imgpipeline.objectstore.listing import ObjectInfo
from imgpipeline.sources.images import ImageStore, ending_of
from imgpipeline.sources.protocol import CapturedFrame


class ReadableImageStore(ImageStore, Protocol):
    """The part of an object store that is needed to find redelivered images."""

    def head(self, key: str) -> ObjectInfo | None:
        """Returns the description of an object, or None if there is none."""


def content_name(data: bytes, digest: str) -> str:
    """Returns the file name of an image that is identified by its content: `{digest}.jpg`.

    Args:
        data: The image.
        digest: Its SHA-256, hexadecimal.
    """
    return f"{digest[:32]}{ending_of(data)}"


def first_received(
    store: ReadableImageStore, template: ImageKeyTemplate, source: str, frame: CapturedFrame
) -> datetime:
    """Returns when a redelivered image first arrived, so that it stays one frame across midnight.

    Args:
        store: Where the images are.
        template: How their keys are made.
        source: Whose image it is.
        frame: The frame as it arrived now; with encoded bytes, and named by `content_name`.

    Returns:
        If it was stored on the day before: when, but not later than that day. Otherwise the frame's time.

    Raises:
        TransientError: The store does not answer.
        PermanentError: The store refuses.
        UsageError: The template needs a number, and the frame has none.
    """
    now, digest = frame.timestamp, frame.sha256 or sha256(frame.data or b"").hexdigest()
    yesterday = now - timedelta(days=1)
    key, of_today = (template.key(source, at, digest, name=frame.name, number=frame.number) for at in (yesterday, now))
    found = store.head(key)
    if found is None:
        return now
    if key == of_today:  # the template has no day
        return found.last_modified
    return min(found.last_modified, datetime.combine(day_of(yesterday), time.max, UTC))
