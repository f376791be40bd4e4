"""The outcomes of an offset: a frame, a dead letter, a notice (`notices`), or part of a gap.

Each is written as one JSON object (the metadata contract); `ledger` writes them to segments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from imgpipeline.contracts.capture import ClockSource, Region, region_from_json, region_to_json
from imgpipeline.contracts.detection import Detection, DetectorUse
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.times import day_of, format_time, parse_time
from imgpipeline.errors import DeadLetterCode


class GapReason(StrEnum):
    """Why an offset holds no record that could be read.

    A further reason is not a new version of the segment's format: its lines keep their layout, and every reader counts
    the offsets of a gap whatever its reason. Golden segments hold each reason.
    """

    ABORTED = "aborted"
    """A record of a transaction that was rolled back."""
    MARKER = "marker"
    """A transaction's own commit or abort marker."""
    COMPACTED = "compacted"
    """Removed by the topic's compaction."""
    EXPIRED = "expired"
    """Removed by retention before it was read: data was lost."""
    BEFORE_FIRST_LOOK = "before_first_look"
    """Already gone when the topic was read for the first time."""
    CLOSED = "closed"
    """One offset that ends a chain for good: from here on, the log that it was built from is gone. What the topic
    partition holds since then has a chain of its own (`ledger.repair.closing`)."""
    DAMAGED = "damaged"
    """Its outcome was lost with a damaged segment, and Kafka no longer had the record (`ledger repair`)."""


class FrameStatus(StrEnum):
    """How far a frame was taken."""

    PROCESSED = "processed"
    """A detector has looked at it."""
    GATED = "gated"
    """It was left out before detection, for the reason in `gate_reason`."""


def make_frame_id(source: str, timestamp: datetime, number_or_path: int | str) -> str:
    """Names a frame that was announced with its time: the same frame announced twice has one name.

    Args:
        source: The camera, video or folder.
        timestamp: The frame's own time.
        number_or_path: Frame number, or the image's path if there is no number.

    Returns:
        32 hexadecimal digits: the first 128 bits of a SHA-256.
    """
    return _digest(source, format_time(timestamp), str(number_or_path))


def make_frame_id_without_time(path: str, e_tag: str) -> str:
    """Names a frame that was announced without a time, by its image: 32 hexadecimal digits, the same on each day."""
    return _digest("", path, e_tag)


def _digest(*parts: str) -> str:
    joined = b""
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        joined += len(data).to_bytes(4, "big") + data
    return sha256(joined).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Frame:
    """The metadata document of one frame. Its JSON names are the metadata contract.

    A detection run knows every field. An import knows what its rows say: of the rest numbers and times are None, texts
    empty. `null` in their place is not a new version of the segment's format; golden segments hold it.
    """

    frame_id: str
    """32 hexadecimal digits; unique within a day (see `make_frame_id`)."""
    source: str
    """The camera, video or folder it came from."""
    source_image_path: str
    """Where the image is stored: `s3://bucket/key`, or a key below the store's prefix; empty if an import does not
    know it."""
    frame_number: int | None
    """Number within the source, from 0; None if it was not announced."""
    timestamp: datetime
    """The frame's own time, UTC; the Kafka record's if none was announced."""
    topic: str
    """Kafka topic of the announcement."""
    partition: int
    """Kafka partition of the announcement."""
    offset: int
    """Kafka offset of the announcement."""
    processing_timestamp: datetime | None
    """When its outcome was ready, UTC."""
    image_width: int | None
    """Width of the original image in pixels, after its EXIF orientation was applied."""
    image_height: int | None
    """Height of the original image in pixels, after its EXIF orientation was applied."""
    size_bytes: int | None
    """Size of the encoded image in bytes."""
    brightness: float | None
    """Mean luma, 0 (black) to 255 (white)."""
    sharpness: float | None
    """Variance of the Laplacian; larger is sharper, 0 is flat."""
    model_used: str
    """Name of the model in the registry; empty if an import does not know it."""
    model_sha256: str
    """SHA-256 of the model file, 64 hexadecimal digits; empty if an import does not know it."""
    confidence_threshold: float | None
    """Detections have a confidence above this, in [0, 1]."""
    nms_threshold: float | None
    """Overlap (IoU) above which the weaker of two boxes was dropped, in [0, 1]."""
    orientation: int | None = 1
    """EXIF orientation that was applied, 1 to 8; 1 is upright."""
    status: FrameStatus = FrameStatus.PROCESSED
    """Whether a detector looked at it."""
    gate_reason: str | None = None
    """Why it was left out before detection; None for a processed frame."""
    replay_of: str | None = None
    """`topic/partition/offset` of the dead letter that this frame was announced again for."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the producer that are not part of the contract, as JSON values."""
    detections: tuple[Detection, ...] = ()
    """What was found, strongest first."""
    detectors: tuple[DetectorUse, ...] = ()
    """Every detector that looked at it, the first being `model_used`; empty if that says all."""
    gate_measurements: Mapping[str, float] = field(default_factory=dict)
    """What `gate_reason` was decided by, such as `brightness`; empty for a processed frame."""
    clock_source: ClockSource | None = None
    """Where `timestamp` is from; None if the producer did not say."""
    region_of_interest: Region = ()
    """The part of the image that counts; empty for all of it."""
    weak_detections: tuple[Detection, ...] = ()
    """What was found below `confidence_threshold`, strongest first: only tracks use it, and no count includes it."""

    @property
    def day(self) -> date:
        """The UTC day of the frame's own time."""
        return day_of(self.timestamp)

    def to_json(self) -> dict[str, Any]:
        """Returns the document of the metadata contract."""
        return {
            "frame_id": self.frame_id,
            "source": self.source,
            "source_image_path": self.source_image_path,
            "frame_number": self.frame_number,
            "timestamp": format_time(self.timestamp),
            "source_kafka_topic": self.topic,
            "source_kafka_partition": self.partition,
            "source_kafka_offset": self.offset,
            "processing_timestamp": format_time(self.processing_timestamp) if self.processing_timestamp else None,
            "image_width": self.image_width,
            "image_height": self.image_height,
            "size_bytes": self.size_bytes,
            "brightness": None if self.brightness is None else round(self.brightness, 3),
            "sharpness": None if self.sharpness is None else round(self.sharpness, 3),
            "model_used": self.model_used,
            "model_sha256": self.model_sha256,
            "confidence_threshold": self.confidence_threshold,
            "nms_threshold": self.nms_threshold,
            "orientation": self.orientation,
            "status": self.status.value,
            "gate_reason": self.gate_reason,
            "replay_of": self.replay_of,
            "attributes": dict(self.attributes),
            "detections": [d.to_json() for d in self.detections],
            **self._later_fields(),
        }

    def _later_fields(self) -> dict[str, Any]:
        """The fields of segment format 2, only if they say something."""
        fields: dict[str, Any] = {
            "detectors": [detector.to_json() for detector in self.detectors],
            "gate_measurements": {name: round(value, 6) for name, value in self.gate_measurements.items()},
            "clock_source": self.clock_source.value if self.clock_source else None,
            "region_of_interest": region_to_json(self.region_of_interest),
            "weak_detections": [d.to_json() for d in self.weak_detections],
        }
        return {name: value for name, value in fields.items() if value}

    @property
    def needs_format_2(self) -> bool:
        """Whether a segment of format 1 cannot hold it. Weak detections change no count: older readers ignore them."""
        later = self.detectors or self.gate_measurements or self.clock_source or self.region_of_interest
        return bool(later) or any(found.detector is not None for found in self.detections)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Frame":
        """Reads what `to_json` wrote."""
        renamed = {
            "topic": data["source_kafka_topic"],
            "partition": data["source_kafka_partition"],
            "offset": data["source_kafka_offset"],
            "timestamp": parse_time(data["timestamp"]),
            "processing_timestamp": parse_time(processed) if (processed := data["processing_timestamp"]) else None,
            "status": FrameStatus(data["status"]),
            "detections": tuple(Detection.from_json(d) for d in data["detections"]),
            "detectors": tuple(DetectorUse.from_json(d) for d in data.get("detectors", ())),
            "gate_measurements": data.get("gate_measurements", {}),
            "clock_source": ClockSource(clock) if (clock := data.get("clock_source")) else None,
            "region_of_interest": region_from_json(data.get("region_of_interest", ())),
            "weak_detections": tuple(Detection.from_json(d) for d in data.get("weak_detections", ())),
        }
        same = cls.__dataclass_fields__.keys() - renamed.keys()
        return cls(**renamed, **{name: data[name] for name in same})


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An offset whose record or image is wrong, with what is needed to look at it and to announce it again."""

    offset: int
    """Kafka offset of the record."""
    code: DeadLetterCode
    """Why it could not become a frame."""
    message: str
    """What was wrong with it, for a person."""
    timestamp: datetime | None
    """The Kafka record's own time, UTC; None if it has none."""
    day: date | None
    """The UTC day it is listed under; None if its time is outside the accepted window."""
    source: str | None
    """The source; None if the record could not be read that far."""
    image_path: str | None
    """The announced path; None if the record could not be read that far."""
    raw_size_bytes: int
    """Size of the record's value in bytes; 0 for an empty or null value."""
    raw_base64: str | None
    """The record's value as base64; None if it was null or larger than is kept (it is still in Kafka)."""
    key_base64: str | None = None
    """The record's key as base64; None if it has none."""
    replay_of: str | None = None
    """`topic/partition/offset` of the dead letter that this record announced again."""
    headers: tuple[tuple[str, str], ...] = ()
    """The record's headers, each value as base64; empty if there are none, or more than is kept."""

    def to_json(self) -> dict[str, Any]:
        """Returns the dead letter as one JSON object; the last two fields, which came later, only if they say so."""
        later = {"replay_of": self.replay_of, "headers": [list(header) for header in self.headers]}
        return {
            "offset": self.offset,
            "code": self.code.value,
            "message": self.message,
            "timestamp": format_time(self.timestamp) if self.timestamp else None,
            "day": self.day.isoformat() if self.day else None,
            "source": self.source,
            "image_path": self.image_path,
            "raw_size_bytes": self.raw_size_bytes,
            "raw_base64": self.raw_base64,
            "key_base64": self.key_base64,
            **{name: value for name, value in later.items() if value},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DeadLetter":
        """Reads what `to_json` wrote."""
        renamed: dict[str, Any] = {
            "code": DeadLetterCode(data["code"]),
            "timestamp": parse_time(data["timestamp"]) if data["timestamp"] else None,
            "day": date.fromisoformat(data["day"]) if data["day"] else None,
            "replay_of": data.get("replay_of"),
            "headers": tuple((name, value) for name, value in data.get("headers", ())),
        }
        same = cls.__dataclass_fields__.keys() - renamed.keys()
        return cls(**renamed, **{name: data[name] for name in same})


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that hold no record, half-open."""

    start: int
    """First offset of the gap."""
    end: int
    """First offset behind the gap; greater than `start`."""
    reason: GapReason
    """Why there is no record."""

    def to_json(self) -> dict[str, Any]:
        """Returns the gap as one JSON object."""
        return {"from": self.start, "to": self.end, "reason": self.reason.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Gap":
        """Reads what `to_json` wrote."""
        return cls(int(data["from"]), int(data["to"]), GapReason(data["reason"]))


RecordOutcome = Frame | DeadLetter | Notice
"""What can become of one record."""
Outcome = RecordOutcome | Gap
"""What can become of one offset, or of the offsets of a gap."""


def needs_format_2(outcome: Outcome) -> bool:
    """Tells whether a segment of format 1 cannot hold an outcome."""
    return isinstance(outcome, Notice) or (isinstance(outcome, Frame) and outcome.needs_format_2)


def offsets_of(outcome: Outcome) -> tuple[int, int]:
    """Returns the half-open range of offsets that an outcome covers."""
    if isinstance(outcome, Gap):
        return outcome.start, outcome.end
    return outcome.offset, outcome.offset + 1


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """Returns an outcome as one line of a segment holds it: `{"frame": …}`, and so `dead_letter`, `notice`, `gap`."""
    return {_KINDS[type(outcome)]: outcome.to_json()}


_KINDS = {Frame: "frame", DeadLetter: "dead_letter", Notice: "notice", Gap: "gap"}


def outcome_from_json(data: Mapping[str, Any]) -> Outcome:
    """Reads what `outcome_to_json` wrote.

    Raises:
        KeyError: The object is none of the four, or a field is missing.
        ValueError: A field has a value that is not in the contract.
    """
    if "frame" in data:
        return Frame.from_json(data["frame"])
    if "dead_letter" in data:
        return DeadLetter.from_json(data["dead_letter"])
    if "notice" in data:
        return Notice.from_json(data["notice"])
    return Gap.from_json(data["gap"])
