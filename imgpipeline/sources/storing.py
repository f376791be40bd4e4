"""Stores the images of frames and makes the Kafka records that announce them.

An image is stored create-only, under a key that its source, time and name or content decide. So storing it again
changes nothing, and another image with the same key gets a key with its digest.
"""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Protocol

from imgpipeline.contracts.capture import Gated
from imgpipeline.contracts.keys import derived_image_key
from imgpipeline.contracts.messages import SESSION, FrameMessage, MessageFormat, classic_value
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.templates import ImageKeyTemplate
from imgpipeline.contracts.times import day_of, find_timezone
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore.client import ObjectInfo
from imgpipeline.settings import Settings
from imgpipeline.sources.frame_preparation import EncodedImage, PreparedFrame, Preparer, derive
from imgpipeline.sources.options import Preparation
from imgpipeline.sources.protocol import CapturedFrame, StoredImage
from imgpipeline.stream.send import Record
from imgpipeline.vision.decode import ImageLimits

NOT_STORED = "image_stored"
"""The attribute that is false for a gated frame whose image was not stored."""


class ImageStore(Protocol):
    """The part of an object store that a publisher needs."""

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object; returns False, and changes nothing, if its key exists."""

    def get(self, key: str) -> bytes:
        """Returns the bytes of an object."""


class ReadableImageStore(ImageStore, Protocol):
    """The part of an object store that is needed to find redelivered images."""

    def head(self, key: str) -> ObjectInfo | None:
        """Returns the description of an object, or None if there is none."""


class StoreTally:
    """Counts stored images; thread-safe."""

    def __init__(self) -> None:
        """Starts at zero."""
        self._lock = threading.Lock()
        self.new = 0
        """Images stored under their own keys."""
        self.changed = 0
        """Images stored under a key with their digest, because another image has their own key."""

    def count(self, *, is_beside_other: bool) -> None:
        """Counts an image that was not stored before."""
        with self._lock:
            self.changed += is_beside_other
            self.new += not is_beside_other


class FrameStorer:
    """Prepares and stores the frames of one session; thread-safe."""

    def __init__(
        self,
        settings: Settings,
        source: str,
        session: str,
        store: ImageStore,
        preparation: Preparation,
        tally: StoreTally | None = None,
    ) -> None:
        """Takes the source and session of the frames, where their images go, and how they are prepared."""
        self._source = source
        self._session = session
        self._store = store
        self._tally = tally or StoreTally()
        self._template = ImageKeyTemplate(settings.image_key_template)
        self._store_gated = preparation.store_gated
        self._derive = preparation.derive
        self._limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
        self._preparer = Preparer(preparation, self._limits)

    def prepare(self, frame: CapturedFrame, before: threading.Event | None, prepared: threading.Event) -> PreparedFrame:
        """Prepares a frame; errors as `Preparer.prepare`.

        Args:
            before: Set when the previous frame is prepared; only waited for if frames are compared.
            prepared: Set when this frame is prepared or has failed.
        """
        try:
            if before and self._preparer.needs_order:
                before.wait()
            return self._preparer.prepare(self._source, frame)
        finally:
            prepared.set()

    def store(self, frame: CapturedFrame, prepared: PreparedFrame) -> FrameMessage:
        """Stores a prepared frame and returns its announcement; errors as those of the store."""
        image, gated = prepared.image, prepared.gated
        is_stored = gated is None or self._store_gated
        attributes: dict[str, object] = {} if is_stored else {NOT_STORED: False}
        key = self._store_image(frame, image, is_stored=is_stored)
        if is_stored and self._derive:
            attributes["derived"] = self._store_derived(key, image.data)
        reach("frame stored", key)
        stored = StoredImage(key, len(image.data), image.sha256, image.width, image.height)
        return self.announcement(frame, stored, gated, attributes)

    def announcement(
        self,
        frame: CapturedFrame,
        image: StoredImage,
        gated: Gated | None = None,
        attributes: Mapping[str, object] = MappingProxyType({}),
    ) -> FrameMessage:
        """Returns the announcement of a frame whose image is stored."""
        return FrameMessage(
            source=self._source,
            image_path=image.path,
            timestamp=frame.timestamp,
            has_own_timestamp=frame.has_own_timestamp,
            frame_number=frame.number,
            width=image.width,
            height=image.height,
            size_bytes=image.size_bytes,
            sha256=image.sha256,
            attributes={**frame.attributes, SESSION: self._session, **attributes},
            clock_source=frame.clock,
            gated=gated,
        )

    def _store_image(self, frame: CapturedFrame, image: EncodedImage, *, is_stored: bool) -> str:
        """Stores an image create-only and returns its key; the same image stored again has the same key.

        The key has the image's digest in its name if other bytes have the image's own key already.

        Raises:
            UsageError: The template of keys needs a number, and the frame has none.
        """
        number = frame.number if frame.position is None else frame.position
        of_frame: dict[str, Any] = {"name": frame.name, "number": number, "suffix": ending_of(image.data)}
        key = self._template.key(self._source, frame.timestamp, image.sha256, **of_frame)
        if not is_stored:
            return key
        if self._store.create(key, image.data):
            self._tally.count(is_beside_other=False)
            return key
        is_named_by_content = frame.name is None and image.sha256[:16] in key
        if is_named_by_content or sha256(self._store.get(key)).hexdigest() == image.sha256:
            return key
        key = self._template.key(self._source, frame.timestamp, image.sha256, **of_frame, beside_other=True)
        if self._store.create(key, image.data):
            self._tally.count(is_beside_other=True)
        return key

    def _store_derived(self, key: str, data: bytes) -> dict[str, str]:
        """Stores the derived images of an image and returns their keys by derivation."""
        images = derive(data, key, self._derive, self._limits)
        keys = {derivation: derived_image_key(key, derivation) for derivation in images}
        for derivation, image in images.items():
            self._store.create(keys[derivation], image)
        return keys


def ending_of(data: bytes) -> str:
    """Returns the file ending for an encoded image."""
    if data.startswith(b"\x89PNG"):
        return ".png"
    return ".jpg" if data.startswith(b"\xff\xd8") else ".img"


def content_name(data: bytes, digest: str) -> str:
    """Returns the file name of an image that is identified by its content: `{digest}.jpg`."""
    return f"{digest[:32]}{ending_of(data)}"


def first_received(
    store: ReadableImageStore, template: ImageKeyTemplate, source: str, frame: CapturedFrame
) -> datetime:
    """Returns when a redelivered image first arrived, so that it stays one frame across midnight.

    Args:
        frame: The frame as it arrived now, with encoded bytes and a name from `content_name`.

    Returns:
        The time it was stored, at most the end of that day, if it was stored the day before; otherwise the frame's
        time.

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


def record_of(settings: Settings, message: FrameMessage | Notice, form: MessageFormat) -> Record | None:
    """Returns the record that announces a frame or a notice.

    Returns:
        The record; None for a notice if the topic's consumers understand only the classic form.
    """
    topic, key = settings.kafka_topic, message.source.encode()
    if isinstance(message, Notice):
        is_understood = form is MessageFormat.NATIVE or settings.notices_topic != topic
        return Record(settings.notices_topic, key, message.to_value()) if is_understood else None
    if form is MessageFormat.CLASSIC:
        zone = find_timezone(settings.message_timezone)
        headers = ((SESSION, str(message.attributes[SESSION]).encode()),) if SESSION in message.attributes else ()
        return Record(topic, key, classic_value(message, store_url=settings.store_url, zone=zone), headers)
    stamp = None if message.has_own_timestamp else round(message.timestamp.timestamp() * 1000)
    return Record(topic, key, message.to_value(with_time=message.has_own_timestamp), timestamp_ms=stamp)
