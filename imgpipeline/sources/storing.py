"""Prepares the images of frames (gates, masks, resizes, encodes), stores them, and derives further images from them.

By default, encoded bytes pass through unchanged. Masks are painted first, so no stored image, thumbnail or measurement
shows what they cover.

An image is stored create-only, under a key that its source, time and name or content decide. So storing it again
changes nothing, and another image with the same key gets a key with its digest.
"""

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from types import MappingProxyType

import cv2
import numpy as np

from imgpipeline.contracts.capture import Gated
from imgpipeline.contracts.keys import derived_image_key, unfinished_ingest_key
from imgpipeline.contracts.messages import SESSION, FrameMessage, bucket_and_key
from imgpipeline.contracts.templates import ImageKeyTemplate, key_beside
from imgpipeline.contracts.times import day_of
from imgpipeline.errors import BadInputError, DeadLetterCode, PermanentError
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.objectstore.client import open_bucket
from imgpipeline.settings import Settings
from imgpipeline.sources.options import EDGES, GRAY, PublishOptions, parse_size
from imgpipeline.sources.protocol import CapturedFrame, StoredImage
from imgpipeline.vision.annotate import encode_jpeg
from imgpipeline.vision.decode import DecodedImage, ImageLimits, Pixels, decode_image
from imgpipeline.vision.gate import GateKeeper, measure_quality
from imgpipeline.vision.header import read_header
from imgpipeline.vision.model import NetworkInput

NOT_STORED = "image_stored"
"""The attribute that is false for a gated frame whose image was not stored."""
_MEASURED = NetworkInput(640, 640, "letterbox")
"""A large JPEG is decoded at about this size if only its brightness, sharpness or change is measured."""
_ENCODED = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_EDGE_LIMITS = (100, 200)


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A frame that is ready to be stored: its image as it is stored."""

    data: bytes
    sha256: str
    width: int | None
    """Width of the upright image in pixels; None if the header cannot be read."""
    height: int | None
    """Height of the upright image in pixels; None if the header cannot be read."""
    gated: Gated | None
    """Why it is left out; None if it is not."""


def derive(data: bytes, name: str, derivations: tuple[str, ...], limits: ImageLimits) -> dict[str, bytes]:
    """Derives images from an encoded image.

    Args:
        name: Its file name or key; its ending chooses the format of the derived images.
        derivations: What to derive (`options.check_derivation`).

    Returns:
        The encoded images by derivation; empty if the original cannot be decoded.
    """
    try:
        pixels = decode_image(data, limits).pixels
    except BadInputError:
        return {}
    ending = next((ending for ending in _ENCODED if name.lower().endswith(ending)), ".jpg")  # OpenCV cannot write all
    return {text: cv2.imencode(ending, _derived(pixels, text))[1].tobytes() for text in derivations}


def stretch(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretches pixels to a width and height: averaged where the image shrinks, interpolated where it grows."""
    interpolation = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation))


def _derived(pixels: Pixels, derivation: str) -> np.ndarray:
    if derivation not in (GRAY, EDGES):
        return stretch(pixels, parse_size(derivation))
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.Canny(gray, *_EDGE_LIMITS) if derivation == EDGES else gray)


def size_of(data: bytes) -> tuple[int | None, int | None]:
    """Returns width and height of the upright image; None for both if its header cannot be read."""
    try:
        return read_header(data).upright_size
    except BadInputError:
        return None, None


class StoreTally:
    """Counts the stored images of a session; thread-safe."""

    def __init__(self) -> None:
        """Starts at zero."""
        self._lock = threading.Lock()
        self.new = 0
        """Images stored under their own keys."""
        self.changed = 0
        """Images stored under a key with their digest, because another image has their own key."""
        self.size_bytes = 0
        """Bytes of all images, including those that were stored before."""
        self.times: tuple[datetime, ...] = ()
        """Earliest and latest time of a frame, UTC; empty without frames."""

    def count(self, *, is_beside_other: bool) -> None:
        """Counts an image that was not stored before."""
        with self._lock:
            self.changed += is_beside_other
            self.new += not is_beside_other

    def add(self, time: datetime, size_bytes: int) -> None:
        """Adds time and size of a stored frame."""
        with self._lock:
            self.size_bytes += size_bytes
            self.times = (min(time, *self.times), max(time, *self.times)) if self.times else (time,)


class FrameStorer:
    """Prepares and stores the frames of one session; thread-safe."""

    def __init__(
        self,
        settings: Settings,
        source: str,
        session: str,
        store: ObjectStore,
        options: PublishOptions,
        tally: StoreTally | None = None,
    ) -> None:
        """Takes the source and session of the frames, where their images go, and how they are prepared."""
        preparation = options.preparation
        self._source = source
        self._session = session
        self._store = store
        self._tally = tally or StoreTally()
        self._template = ImageKeyTemplate(settings.image_key_template)
        self._preparation, self._options, self._settings = preparation, options, settings
        self._reader, self._buckets = ImageReader(store, settings), dict[str, ObjectStore]()
        self._limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
        self._keeper = GateKeeper(preparation.gate)
        self._lock, self._is_noted = threading.Lock(), False
        self._unfinished_since: datetime | None = None

    def prepare(self, frame: CapturedFrame, before: threading.Event | None, prepared: threading.Event) -> PreparedFrame:
        """Prepares a frame.

        Args:
            before: Set when the previous frame is prepared; only waited for if frames are compared.
            prepared: Set when this frame is prepared or has failed.

        Raises:
            BadInputError: The image must be masked but cannot be decoded. Without masks, it is passed on unchanged; the
                pipeline records it as a dead letter.
            PermanentError: The frame has neither bytes nor pixels.
        """
        try:
            if before and self._preparation.gate.min_change is not None:
                before.wait()
            gated = self._keeper.decide_by_time(frame.timestamp)
            if self._preparation.changes_images:
                frame = self._changed(frame)
            if not gated and self._preparation.gate:
                gated = self._decide(frame)
            return _encoded(frame, gated)
        finally:
            prepared.set()

    def _changed(self, frame: CapturedFrame) -> CapturedFrame:
        try:
            pixels = self._decoded(frame, reduced=False).pixels.copy()
        except BadInputError:
            if self._preparation.masks or frame.data is None:
                raise
            return frame
        height, width = pixels.shape[:2]
        for polygon in self._preparation.masks:
            points = np.rint(np.array(polygon) * (width, height)).astype(np.int32)
            cv2.fillPoly(pixels, [points], (0, 0, 0))
        size = self._preparation.resize
        if size and size != (width, height):
            pixels = stretch(pixels, size)
        return replace(frame, data=None, pixels=pixels)

    def _decide(self, frame: CapturedFrame) -> Gated | None:
        try:
            image = self._decoded(frame, reduced=True)
        except BadInputError:
            return None
        return self._keeper.decide(self._source, image, measure_quality(image))

    def _decoded(self, frame: CapturedFrame, *, reduced: bool) -> DecodedImage:
        if frame.data is not None:
            return decode_image(frame.data, self._limits, reduced_for=_MEASURED if reduced else None)
        if frame.pixels is None or frame.pixels.size == 0:
            raise BadInputError(DeadLetterCode.DECODE_FAILED, "A source yielded a frame without an image.")
        return DecodedImage.of(frame.pixels)

    def store(self, frame: CapturedFrame, prepared: PreparedFrame) -> FrameMessage:
        """Stores a prepared frame and returns its announcement; errors as those of the store."""
        is_stored = prepared.gated is None or self._preparation.store_gated
        attributes: dict[str, object] = {} if is_stored else {NOT_STORED: False}
        key = self._store_image(frame, prepared, is_stored=is_stored)
        if is_stored and self._preparation.derive:
            attributes["derived"] = self._store_derived(self._store, key, prepared.data)
        self._tally.add(frame.timestamp, len(prepared.data))
        reach("frame stored", key)
        stored = StoredImage(key, len(prepared.data), prepared.sha256, prepared.width, prepared.height)
        return self.announcement(frame, stored, prepared.gated, attributes)

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

    def derive_from_stored(self, frame: CapturedFrame, image: StoredImage) -> FrameMessage:
        """Derives images from one in a bucket, stores them beside it, and returns its announcement.

        An image that is gone or cannot be decoded is announced without them: its frame becomes a dead letter.
        """
        derived: dict[str, str] = {}
        with suppress(BadInputError):
            data = self._reader.read(image.path).data
            bucket, key = bucket_and_key(image.path)
            store = self._buckets.get(bucket) or self._buckets.setdefault(bucket, open_bucket(self._settings, bucket))
            derived = {text: f"{store.url}/{at}" for text, at in self._store_derived(store, key, data).items()}
        return self.announcement(frame, image, attributes={"derived": derived})

    def is_left_out(self, frame: CapturedFrame, image: PreparedFrame) -> bool:
        """Returns whether the image of a frame was stored before, and its announcement is not to be repeated.

        Must be asked before the first attempt to store it: an attempt whose answer was lost has stored it, too.
        """
        if not self._options.skips_stored:
            return False
        unfinished_since = self._note_session()
        own = self._key(frame, image)
        found = self._store.head(own)
        if found and not self._has_image(own, frame, image):
            found = self._store.head(key_beside(own, image.sha256))
        return found is not None and (unfinished_since is None or found.last_modified < unfinished_since)

    def _note_session(self) -> datetime | None:
        """Returns since when images may be stored but not announced, because a session of the source was killed."""
        with self._lock:
            if not self._is_noted:
                key = unfinished_ingest_key(self._source)
                if not self._store.create_or_own(key, self._session.encode()):
                    noted = self._store.head(key)
                    self._unfinished_since = noted.last_modified if noted else None
                self._is_noted = True
            return self._unfinished_since

    def finish(self) -> None:
        """Notes that each stored image is announced; errors as those of the store."""
        if self._is_noted:
            self._store.delete(unfinished_ingest_key(self._source))

    def _has_image(self, key: str, frame: CapturedFrame, image: PreparedFrame) -> bool:
        """Returns whether the object under a key, which exists, is this image."""
        is_named_by_content = frame.name is None and image.sha256[:16] in key
        return is_named_by_content or sha256(self._store.get(key)).hexdigest() == image.sha256

    def _key(self, frame: CapturedFrame, image: PreparedFrame) -> str:
        """Returns the key of an image; raises UsageError if its template needs a number, and the frame has none."""
        number = frame.number if frame.position is None else frame.position
        return self._template.key(
            self._source, frame.timestamp, image.sha256, name=frame.name,
            number=None if number is None else number + self._options.first_number, suffix=ending_of(image.data),
        )  # fmt: skip

    def _store_image(self, frame: CapturedFrame, image: PreparedFrame, *, is_stored: bool) -> str:
        """Stores an image create-only and returns its key; the same image stored again has the same key."""
        key = self._key(frame, image)
        if not is_stored:
            return key
        if self._store.create(key, image.data):
            self._tally.count(is_beside_other=False)
        elif not self._has_image(key, frame, image):
            key = key_beside(key, image.sha256)
            if self._store.create(key, image.data):
                self._tally.count(is_beside_other=True)
        return key

    def _store_derived(self, store: ObjectStore, key: str, data: bytes) -> dict[str, str]:
        """Stores the derived images of an image and returns their keys by derivation."""
        images = derive(data, key, self._preparation.derive, self._limits)
        keys = {derivation: derived_image_key(key, derivation) for derivation in images}
        for derivation, image in images.items():
            store.create(keys[derivation], image)
        return keys


def _encoded(frame: CapturedFrame, gated: Gated | None) -> PreparedFrame:
    """Returns the frame's own bytes unchanged, or its pixels as JPEG."""
    if frame.data is not None:
        return PreparedFrame(frame.data, frame.sha256 or sha256(frame.data).hexdigest(), *size_of(frame.data), gated)
    if frame.pixels is None:
        raise PermanentError("A source yielded a frame without bytes and without pixels.")
    data = encode_jpeg(frame.pixels)
    return PreparedFrame(data, sha256(data).hexdigest(), frame.pixels.shape[1], frame.pixels.shape[0], gated)


def ending_of(data: bytes) -> str:
    """Returns the file ending for an encoded image."""
    if data.startswith(b"\x89PNG"):
        return ".png"
    return ".jpg" if data.startswith(b"\xff\xd8") else ".img"


def content_name(data: bytes, digest: str) -> str:
    """Returns the file name of an image that is identified by its content: `{digest}.jpg`."""
    return f"{digest[:32]}{ending_of(data)}"


def first_received(store: ObjectStore, template: ImageKeyTemplate, source: str, frame: CapturedFrame) -> datetime:
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
