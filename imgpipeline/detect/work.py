"""From a Kafka record to its outcome: a frame, a dead letter or a notice.

Owns the per-message border: everything that a record or its image can be wrong in ends here as a `DeadLetter`, and
what the environment causes passes through as an error. The way has two halves, since they want different threads:
`read` waits for the object store, `look` computes. How many do what at a time belongs to `pool`.
"""

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from imgpipeline.contracts.burial import bury
from imgpipeline.contracts.keys import image_key
from imgpipeline.contracts.messages import FrameMessage, KafkaRecord
from imgpipeline.contracts.notices import Notice, parse_record
from imgpipeline.contracts.outcomes import DeadLetter, Frame, RecordOutcome, make_frame_id, make_frame_id_without_time
from imgpipeline.contracts.times import day_of, format_time
from imgpipeline.detect.stages import Stage, StageClock
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import Fetched, ImageReader
from imgpipeline.settings import Clock, Settings
from imgpipeline.vision.configured import decoded_for
from imgpipeline.vision.decode import DecodedImage, ImageLimits, decode_image, read_header
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.quality import Quality, measure_quality

LARGE_PIXELS = 3840 * 2160
"""Larger pictures are decoded one at a time, which bounds the memory of a run: what cameras commonly make is within."""
LARGE_BYTES = 8 * 2**20
"""Larger files are read one at a time, for the same reason."""
_SUFFIXES = {"jpeg": ".jpg", "tiff": ".tif"}


@dataclass(frozen=True, slots=True)
class ReadFrame:
    """A record whose image was read."""

    record: KafkaRecord
    """The announcement as it was fetched."""
    message: FrameMessage
    """What it says."""
    path: str
    """Where the image is stored."""
    fetched: Fetched
    """The encoded image."""
    ready_at_s: float
    """When it was read, by `time.perf_counter`."""


@dataclass(frozen=True, slots=True)
class FrameWork:
    """Turns records into outcomes. May be called from many threads.

    Guarantees:
        Whatever the record and its image are, there is an outcome; only what the environment causes is raised.
    """

    settings: Settings
    """Limits and the accepted window of times."""
    images: ImageReader
    """Reads announced images."""
    detector: Detector
    """Looks at pictures."""
    clock: Clock
    """Tells the time."""
    stages: StageClock = field(default_factory=StageClock)
    """Takes the times of the stages."""
    _large: threading.RLock = field(default_factory=threading.RLock)

    def work(self, record: KafkaRecord) -> RecordOutcome:
        """Returns the outcome of a record, from beginning to end in the calling thread; errors as `read`, `look`."""
        read = self.read(record)
        return self.look(read) if isinstance(read, ReadFrame) else read

    def read(self, record: KafkaRecord, since_s: float | None = None) -> ReadFrame | RecordOutcome:
        """Reads what a record announces.

        Args:
            record: As it was fetched.
            since_s: When it was fetched, by `time.perf_counter`.

        Returns:
            What is to be looked at; or the outcome, where the record is a notice or bad, or the image was so large that
            it was looked at right here, with no other large one beside it.

        Raises:
            TransientError: The object store is in trouble.
            ForbiddenError: The object store refuses the pipeline's own prefix.
            PermanentError: The detector does not work.
        """
        message: FrameMessage | None = None
        try:
            self._check_record(record)
            found = parse_record(record, video_frame_path=self.settings.video_frame_path)
            if isinstance(found, Notice):
                self._check_time(found.interval_start)
                return found
            message = found
            self._check_time(message.timestamp)
            try:
                with self.stages.at(Stage.GET, since_s):
                    return self._get(record, message, min(LARGE_BYTES, self.settings.max_image_bytes))
            except BadInputError as error:
                if error.code is not DeadLetterCode.TOO_LARGE or self.settings.max_image_bytes <= LARGE_BYTES:
                    raise
            with self._large:
                with self.stages.at(Stage.GET):
                    large = self._get(record, message, self.settings.max_image_bytes)
                return self.look(large)
        except BadInputError as error:
            return self.bury(record, message, error)

    def look(self, read: ReadFrame) -> RecordOutcome:
        """Decodes an image and finds the objects in it.

        Raises:
            TransientError: There was not enough memory.
            PermanentError: The detector does not work.
        """
        record, message, data = read.record, read.message, read.fetched.data
        looked_at = f"{record.partition}/{record.offset} {read.path}"
        reach("look", looked_at)
        try:
            _check_announced(message, data)
            header = read_header(data)
            with self._one_large_at_a_time(header.width * header.height):
                with self.stages.at(Stage.DECODE, read.ready_at_s):
                    limits = ImageLimits(self.settings.max_image_pixels, self.settings.max_image_bytes)
                    image = decode_image(data, limits, reduced_for=decoded_for(self.settings, self.detector))
                    quality = measure_quality(image)
                frame = self._detect(read, image, quality)
        except BadInputError as error:
            return self.bury(record, message, error)
        reach("look done", looked_at)
        return frame

    def _one_large_at_a_time(self, pixels: int) -> AbstractContextManager[object]:
        return self._large if pixels > LARGE_PIXELS else nullcontext()

    def _detect(self, read: ReadFrame, image: DecodedImage, quality: Quality) -> Frame:
        detector, record, message = self.detector, read.record, read.message
        with self.stages.at(Stage.INFER):
            detections = detector.detect(image)
        return Frame(
            frame_id=_frame_id(message, read.path, read.fetched.e_tag),
            source=message.source,
            source_image_path=read.path,
            frame_number=message.frame_number,
            timestamp=message.timestamp,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            processing_timestamp=self.clock(),
            image_width=image.width,
            image_height=image.height,
            size_bytes=len(read.fetched.data),
            brightness=quality.brightness,
            sharpness=quality.sharpness,
            model_used=detector.model_name,
            model_sha256=detector.model_sha256,
            confidence_threshold=detector.confidence_threshold,
            nms_threshold=detector.nms_threshold,
            orientation=image.orientation,
            replay_of=message.replay_of,
            attributes=message.attributes,
            detections=tuple(detections),
            clock_source=message.clock_source,
            region_of_interest=message.region_of_interest,
        )

    def _check_record(self, record: KafkaRecord) -> None:
        size_bytes, limit = len(record.value or b""), self.settings.max_message_bytes
        if size_bytes > limit:
            message = f"The record has {size_bytes} bytes, the limit is {limit} (IMGPIPELINE_MAX_MESSAGE_BYTES)."
            raise BadInputError(DeadLetterCode.TOO_LARGE, message)

    def _check_time(self, time_: datetime) -> None:
        if not self._accepts(time_):
            raise BadInputError(
                DeadLetterCode.TIMESTAMP_OUT_OF_RANGE,
                f"timestamp: got {format_time(time_)}, expected one from {self.settings.first_day} "
                f"(IMGPIPELINE_FIRST_DAY) to {self.settings.max_future_s:.0f} s ahead of now.",
            )

    def _accepts(self, time_: datetime) -> bool:
        latest = self.clock() + timedelta(seconds=self.settings.max_future_s)
        return self.settings.first_day <= day_of(time_) and time_ <= latest

    def _get(self, record: KafkaRecord, message: FrameMessage, max_bytes: int) -> ReadFrame:
        if message.image is None:
            path = message.image_path or ""
            fetched = self.images.read(path, max_bytes=max_bytes)
        else:
            path, fetched = self._store(message, message.image)
        return ReadFrame(record, message, path, fetched, time.perf_counter())

    def _store(self, message: FrameMessage, data: bytes) -> tuple[str, Fetched]:
        """Stores the image that a record carries, under a name made of its content: storing it again is harmless."""
        digest = sha256(data).hexdigest()
        kind = read_header(data).format
        name = digest[:32] + _SUFFIXES.get(kind, "." + kind)
        key = image_key(message.source, day_of(message.timestamp), name)
        self.images.store.create(key, data)
        return key, Fetched(data, digest)

    def bury(self, record: KafkaRecord, message: FrameMessage | None, error: BadInputError) -> DeadLetter:
        """Returns the dead letter of a record, listed under the day that its message or itself names."""
        time_ = message.timestamp if message and self._accepts(message.timestamp) else record.time
        day = day_of(time_) if time_ and self._accepts(time_) else None
        return bury(record, error, message=message, day=day, most_bytes=self.settings.dead_letter_raw_bytes)


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
