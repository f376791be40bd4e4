"""Turns a Kafka record into its outcome: a frame, a dead letter or a notice.

This is the per-message boundary: a fault of a record or its image becomes a `DeadLetter` here; errors of the
environment pass through. The two steps run in different threads (`image_pool`): `read` waits for the object store,
`look` computes.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from imgpipeline.contracts.capture import Gated
from imgpipeline.contracts.keys import image_key
from imgpipeline.contracts.messages import FrameMessage, MessageForm
from imgpipeline.contracts.notices import Notice, parse_record
from imgpipeline.contracts.outcomes import (
    DeadLetter,
    Frame,
    FrameStatus,
    RecordOutcome,
    make_dead_letter,
    make_frame_id,
    make_frame_id_without_time,
)
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.contracts.times import Clock, day_of, format_time
from imgpipeline.detect.frame_paths import FramePaths
from imgpipeline.detect.report import Stage, StageClock
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import Fetched, ImageReader, ObjectMissingError, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import configured_gate
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.gate import GateKeeper
from imgpipeline.vision.header import ImageHeader, read_header
from imgpipeline.vision.image_detector import Decide, DetectedImage, ImageDetector
from imgpipeline.vision.image_pool import ReadImage

_SUFFIXES = {"jpeg": ".jpg", "tiff": ".tif"}
_MISSING_ATTEMPTS = 3
_MISSING_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class ReadFrame(ReadImage):
    """A record whose image was read."""

    record: KafkaRecord
    message: FrameMessage
    path: str
    e_tag: str
    """Version of the stored image."""
    sha256: str
    header: ImageHeader | None
    """The image's header; None if it has not been read yet."""


@dataclass(frozen=True, slots=True)
class FrameWork:
    """An `ImageWork` that turns records into outcomes; used by many threads.

    Every record gets an outcome. Only errors of the environment are raised.
    """

    settings: Settings
    images: ImageReader
    detector: Detector
    clock: Clock
    stages: StageClock = field(default_factory=StageClock)
    _image_detector: ImageDetector = field(init=False)
    _form: MessageForm = field(init=False)
    _gate: GateKeeper = field(init=False)

    def __post_init__(self) -> None:
        form, database = self.settings.message_form(self.settings.kafka_topics), self.settings.frames_database
        object.__setattr__(self, "_form", replace(form, image_path=FramePaths(database)) if database else form)
        object.__setattr__(self, "_gate", GateKeeper(configured_gate(self.settings)))
        detector = ImageDetector(self.settings, self.detector, weak_above=self.settings.weak_confidence)
        object.__setattr__(self, "_image_detector", detector)

    def work(self, record: KafkaRecord) -> RecordOutcome:
        """Returns the outcome of a record, both steps in the calling thread; errors as `read` and `look`."""
        read = self.read(record)
        return self.look(read) if isinstance(read, ReadFrame) else read

    def read(
        self, record: KafkaRecord, since_s: float | None = None, *, admit: Callable[[int], None] | None = None
    ) -> ReadFrame | RecordOutcome:
        """Reads the image that a record announces.

        Args:
            since_s: When the record was fetched, by `time.perf_counter`.
            admit: Called with the image's size in bytes before it is loaded.

        Returns:
            The image; or the outcome if the record is a notice, is gated by its time, or it or its image is bad.

        Raises:
            TransientError: The object store does not answer.
            ForbiddenError: The object store refuses the pipeline's own prefix.
        """
        message: FrameMessage | None = None
        try:
            self._check_record(record)
            found = parse_record(record, form=self._form)
            if isinstance(found, Notice):
                self._check_time(found.interval_start)
                return found
            message = found
            self._check_time(message.timestamp)
            gated = message.gated or self._gate.decide_by_time(message.timestamp)
            if gated and message.image_path is not None:
                return self._gated(record, message, gated)
            with self.stages.at(Stage.GET, since_s):
                return self._get(record, message, admit)
        except BadInputError as error:
            return self.bury(record, message, error)

    def look(self, read: ReadFrame) -> RecordOutcome:
        """Decodes an image and finds the objects in it.

        Raises:
            TransientError: There was not enough memory.
            PermanentError: The detector does not work.
        """
        looked_at = f"{read.record.partition}/{read.record.offset} {read.path}"
        reach("look", looked_at)

        def step(name: str) -> AbstractContextManager[None]:
            return self.stages.at(Stage(name), read.ready_at_s if name == Stage.DECODE else None)

        try:
            _check_announced(read)
            found = self._image_detector.detect(read.data, read.header, step=step, decide=self._decide(read.message))
            frame = self._frame(read, found)
        except BadInputError as error:
            return self.bury(read.record, read.message, error)
        reach("look done", looked_at)
        return frame

    def _frame(self, read: ReadFrame, found: DetectedImage) -> Frame:
        gated = found.gated
        return replace(
            self._announced(read.record, read.message, read.path, read.e_tag),
            image_width=found.width,
            image_height=found.height,
            size_bytes=len(read.data),
            sha256=read.sha256,
            brightness=found.quality.brightness,
            sharpness=found.quality.sharpness,
            orientation=found.orientation,
            status=FrameStatus.GATED if gated else FrameStatus.PROCESSED,
            gate_reason=gated.reason if gated else None,
            gate_measurements=gated.measurements if gated else {},
            detectors=() if gated else self.detector.uses,
            detections=found.detections,
            weak_detections=found.weak_detections,
        )

    def _gated(self, record: KafkaRecord, message: FrameMessage, gated: Gated) -> Frame:
        """Returns the outcome of a frame that is gated before its image is read."""
        frame = self._announced(record, message, message.image_path or "", message.sha256 or "")
        return replace(
            frame,
            brightness=gated.measurements.get("brightness"),
            sharpness=gated.measurements.get("sharpness"),
            status=FrameStatus.GATED,
            gate_reason=gated.reason,
            gate_measurements=gated.measurements,
        )

    def _announced(self, record: KafkaRecord, message: FrameMessage, path: str, e_tag: str) -> Frame:
        """Returns a frame with the fields that the announcement gives."""
        detector = self.detector
        return Frame(
            frame_id=_frame_id(message, path, e_tag),
            source=message.source,
            source_image_path=path,
            frame_number=message.frame_number,
            timestamp=message.timestamp,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            processing_timestamp=self.clock(),
            image_width=message.width,
            image_height=message.height,
            size_bytes=message.size_bytes,
            model_used=detector.model_name,
            model_sha256=detector.model_sha256,
            confidence_threshold=detector.confidence_threshold,
            nms_threshold=detector.nms_threshold,
            orientation=None,
            replay_of=message.replay_of,
            attributes=message.attributes,
            clock_source=message.clock_source,
            region_of_interest=message.region_of_interest,
        )

    def _decide(self, message: FrameMessage) -> Decide | None:
        if not self._gate.gate:
            return None
        gate, source, time_ = self._gate, message.source, message.timestamp
        return lambda image, quality: gate.decide_by_time(time_) or gate.decide(source, image, quality)

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
        return self.settings.accepts_time(time_, self.clock())

    def _get(self, record: KafkaRecord, message: FrameMessage, admit: Callable[[int], None] | None) -> ReadFrame:
        if message.image is not None:
            return self._store(record, message, message.image)
        path = message.image_path or ""
        fetched = self.images.read(path, admit=admit)
        digest = sha256(fetched.data).hexdigest()
        return ReadFrame(fetched.data, time.perf_counter(), record, message, path, fetched.e_tag, digest, None)

    def _store(self, record: KafkaRecord, message: FrameMessage, data: bytes) -> ReadFrame:
        """Stores the image inside a record under a name made from its content, so storing it again is harmless."""
        digest, header = sha256(data).hexdigest(), read_header(data)
        name = digest[:32] + _SUFFIXES.get(header.format, "." + header.format)
        key = image_key(message.source, day_of(message.timestamp), name)
        self.images.store.create(key, data)
        return ReadFrame(data, time.perf_counter(), record, message, key, digest, digest, header)

    def bury(self, record: KafkaRecord, message: FrameMessage | None, error: BadInputError) -> DeadLetter:
        """Returns the dead letter of a record, under the day of its message or else of the record."""
        time_ = message.timestamp if message and self._accepts(message.timestamp) else record.time
        day = day_of(time_) if time_ and self._accepts(time_) else None
        return make_dead_letter(record, error, message=message, day=day, most_bytes=self.settings.dead_letter_raw_bytes)


def _check_announced(read: ReadFrame) -> None:
    for name, announced, found in (
        ("size_bytes", read.message.size_bytes, len(read.data)),
        ("sha256", read.message.sha256, read.sha256),
    ):
        if announced is not None and announced != found:
            raise BadInputError(DeadLetterCode.HASH_MISMATCH, f"{name}: announced {announced}, the image has {found}.")


def _frame_id(message: FrameMessage, path: str, e_tag: str) -> str:
    if not message.has_own_timestamp:
        return make_frame_id_without_time(path, e_tag)
    number = message.frame_number
    return make_frame_id(message.source, message.timestamp, path if number is None else number)


def open_image_reader(settings: Settings, store: ObjectStore) -> ImageReader:
    """Returns a reader that retries missing images, because some producers announce a little early."""
    return ImageReader(store, settings, _retry_missing)


def _retry_missing(read: Callable[[], Fetched]) -> Fetched:
    try:
        return read()  # the retries below would cost 40 microseconds a frame even if nothing is missing
    except ObjectMissingError:
        time.sleep(_MISSING_PAUSE_S)
    attempts = Retrying(
        retry=retry_if_exception_type(ObjectMissingError),
        stop=stop_after_attempt(_MISSING_ATTEMPTS - 1),
        wait=wait_fixed(_MISSING_PAUSE_S),
        reraise=True,
    )
    return attempts(read)
