"""From a Kafka record to a picture that can be looked at, or to a dead letter.

Owns the per-message border: everything that a record or its image can be wrong in ends here as a `DeadLetter`, and
what the environment causes passes through as an error. May be called from many threads. Detection itself belongs to
`vision.detector`.
"""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from imgpipeline.contracts.keys import image_key
from imgpipeline.contracts.messages import FrameMessage, KafkaRecord, parse_message
from imgpipeline.contracts.outcomes import DeadLetter, make_frame_id, make_frame_id_without_time
from imgpipeline.contracts.times import day_of, format_time
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.objectstore import Fetched, ImageReader
from imgpipeline.settings import Clock, Settings
from imgpipeline.vision.decode import DecodedImage, ImageLimits, decode_image, read_header
from imgpipeline.vision.quality import Quality, measure_quality

AHEAD_PIXELS = 3840 * 2160
"""Larger pictures are not decoded ahead of their turn: this bounds the memory of a run, with `prefetch_images`.
They are read twice, so what cameras commonly make (4K) has to be within."""
AHEAD_BYTES = 8 * 2**20
"""Larger files are not read ahead of their turn, for the same reason."""
_SUFFIXES = {"jpeg": ".jpg", "tiff": ".tif"}


@dataclass(frozen=True, slots=True)
class PreparedFrame:
    """A record whose picture is decoded."""

    record: KafkaRecord
    """The announcement as it was fetched."""
    message: FrameMessage
    """What it says."""
    frame_id: str
    """Name of the frame."""
    path: str
    """Where the image is stored."""
    image: DecodedImage
    """The picture."""
    size_bytes: int
    """Size of the encoded image."""
    quality: Quality
    """How bright and how sharp it is."""


@dataclass(frozen=True, slots=True)
class LargeFrame:
    """A record whose picture is too large to be decoded ahead of its turn."""

    record: KafkaRecord
    """The announcement as it was fetched."""


@dataclass(frozen=True, slots=True)
class FramePreparer:
    """Prepares records.

    Guarantees:
        Whatever the record and its image are, `prepare` returns a value; it raises only for what the environment
        causes.
    """

    settings: Settings
    """Limits and the accepted window of times."""
    images: ImageReader
    """Reads announced images."""
    clock: Clock
    """Tells the time."""

    def prepare(self, record: KafkaRecord, *, ahead: bool) -> PreparedFrame | LargeFrame | DeadLetter:
        """Prepares one record.

        Args:
            record: As it was fetched.
            ahead: Whether others wait before it; then a large picture is left for its turn.

        Raises:
            TransientError: The object store is in trouble.
            ForbiddenError: The object store refuses the pipeline's own prefix.
        """
        message: FrameMessage | None = None
        try:
            self._check_record(record)
            message = parse_message(record, video_frame_path=self.settings.video_frame_path)
            self._check_time(message)
            return self._load(record, message, ahead=ahead)
        except BadInputError as error:
            return self._bury(record, message, error)

    def _check_record(self, record: KafkaRecord) -> None:
        size_bytes, limit = len(record.value or b""), self.settings.max_message_bytes
        if size_bytes > limit:
            message = f"The record has {size_bytes} bytes, the limit is {limit} (IMGPIPELINE_MAX_MESSAGE_BYTES)."
            raise BadInputError(DeadLetterCode.TOO_LARGE, message)

    def _check_time(self, message: FrameMessage) -> None:
        if not self._accepts(message.timestamp):
            raise BadInputError(
                DeadLetterCode.TIMESTAMP_OUT_OF_RANGE,
                f"timestamp: got {format_time(message.timestamp)}, expected one from {self.settings.first_day} "
                f"(IMGPIPELINE_FIRST_DAY) to {self.settings.max_future_s:.0f} s ahead of now.",
            )

    def _accepts(self, time: datetime) -> bool:
        latest = self.clock() + timedelta(seconds=self.settings.max_future_s)
        return self.settings.first_day <= day_of(time) and time <= latest

    def _load(self, record: KafkaRecord, message: FrameMessage, *, ahead: bool) -> PreparedFrame | LargeFrame:
        limits = ImageLimits(self.settings.max_image_pixels, self.settings.max_image_bytes)
        if message.image is None:
            path = message.image_path or ""
            max_bytes = min(AHEAD_BYTES, limits.max_bytes) if ahead else limits.max_bytes
            try:
                fetched = self.images.read(path, max_bytes=max_bytes)
            except BadInputError as error:
                if error.code is DeadLetterCode.TOO_LARGE and max_bytes < limits.max_bytes:
                    return LargeFrame(record)
                raise
        else:
            path, fetched = self._store(message, message.image)
        _check_announced(message, fetched.data)
        header = read_header(fetched.data)
        if ahead and AHEAD_PIXELS < header.width * header.height <= limits.max_pixels:
            return LargeFrame(record)
        image = decode_image(fetched.data, limits)
        return PreparedFrame(
            record=record,
            message=message,
            frame_id=_frame_id(message, path, fetched.e_tag),
            path=path,
            image=image,
            size_bytes=len(fetched.data),
            quality=measure_quality(image.pixels),
        )

    def _store(self, message: FrameMessage, data: bytes) -> tuple[str, Fetched]:
        """Stores the image that a record carries, under a name made of its content: storing it again is harmless."""
        digest = sha256(data).hexdigest()
        kind = read_header(data).format
        name = digest[:32] + _SUFFIXES.get(kind, "." + kind)
        key = image_key(message.source, day_of(message.timestamp), name)
        self.images.store.create(key, data)
        return key, Fetched(data, digest)

    def _bury(self, record: KafkaRecord, message: FrameMessage | None, error: BadInputError) -> DeadLetter:
        time = message.timestamp if message and self._accepts(message.timestamp) else record.time
        return DeadLetter(
            offset=record.offset,
            code=error.code,
            message=error.message,
            timestamp=record.time,
            day=day_of(time) if time and self._accepts(time) else None,
            source=message.source if message else None,
            image_path=message.image_path if message else None,
            raw_size_bytes=len(record.value or b""),
            raw_base64=self._keep(record.value),
            key_base64=self._keep(record.key),
        )

    def _keep(self, raw: bytes | None) -> str | None:
        """Returns bytes as a dead letter keeps them: None where they are too many (they are still in Kafka)."""
        fits = raw is not None and len(raw) <= self.settings.dead_letter_raw_bytes
        return base64.b64encode(raw).decode() if raw is not None and fits else None


def _check_announced(message: FrameMessage, data: bytes) -> None:
    if message.size_bytes is not None and message.size_bytes != len(data):
        raise BadInputError(
            DeadLetterCode.HASH_MISMATCH, f"size_bytes: announced {message.size_bytes}, the image has {len(data)}."
        )
    if message.sha256 is not None and message.sha256 != (found := sha256(data).hexdigest()):
        raise BadInputError(DeadLetterCode.HASH_MISMATCH, f"sha256: announced {message.sha256}, the image has {found}.")


def _frame_id(message: FrameMessage, path: str, e_tag: str) -> str:
    if not message.has_own_timestamp:
        return make_frame_id_without_time(path, e_tag)
    number = message.frame_number
    return make_frame_id(message.source, message.timestamp, path if number is None else number)
