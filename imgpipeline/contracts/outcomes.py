"""The outcomes of an offset: a frame, a dead letter, a notice (`notices`), or part of a gap.

Each is one JSON object (the metadata contract) in a segment of the ledger.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

from imgpipeline.contracts.capture import ClockSource, Region, region_from_json, region_to_json
from imgpipeline.contracts.detection import Detection, DetectorUse
from imgpipeline.contracts.message_fields import MAX_TEXT, is_storable
from imgpipeline.contracts.messages import IMAGE_FIELDS, SESSION, FrameMessage
from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.contracts.records import KafkaRecord, RawRecord
from imgpipeline.contracts.times import day_of, format_time, parse_time
from imgpipeline.errors import BadInputError, DeadLetterCode


class GapReason(StrEnum):
    """Why an offset holds no record that could be read."""

    ABORTED = "aborted"
    """A record of a transaction that was rolled back."""
    MARKER = "marker"
    """A transaction's own commit or abort marker."""
    COMPACTED = "compacted"
    """Removed by the topic's compaction."""
    EXPIRED = "expired"
    """Removed by retention before it was read: data was lost."""
    BEFORE_FIRST_LOOK = "before_first_look"
    """Removed before the topic was read for the first time."""
    CLOSED = "closed"
    """One offset that permanently ends a chain whose log is gone. Later records of the topic partition are in the next
    chain (`ledger.chain`)."""
    DAMAGED = "damaged"
    """Its outcome was lost with a damaged segment, and Kafka no longer had the record (`ledger repair`)."""


class FrameStatus(StrEnum):
    """Whether a detector processed a frame."""

    PROCESSED = "processed"
    """A detector processed it."""
    GATED = "gated"
    """It was excluded before detection, for the reason in `gate_reason`."""


def make_frame_id(source: str, timestamp: datetime, number_or_path: int | str) -> str:
    """Returns the id of a frame that was announced with its time. The same frame announced twice gets the same id.

    Args:
        source: The camera, video or folder.
        timestamp: The frame's own time.
        number_or_path: Frame number, or the image's path if there is no number.

    Returns:
        32 hexadecimal digits: the first 128 bits of a SHA-256.
    """
    return _digest(source, format_time(timestamp), str(number_or_path))


def make_frame_id_without_time(path: str, e_tag: str) -> str:
    """Returns the id of a frame that was announced without a time, from its image: 32 hexadecimal digits."""
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

    A new field is added at the end, with a default; if its value is JSON already, nothing else changes here.

    A detection run fills every field. An import fills only what its rows contain: other numbers and times are None,
    other texts empty.
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
    partition: int
    offset: int
    processing_timestamp: datetime | None = None
    """When its outcome was ready, UTC."""
    image_width: int | None = None
    """Width of the original image in pixels, after its EXIF orientation was applied."""
    image_height: int | None = None
    """Height of the original image in pixels, after its EXIF orientation was applied."""
    size_bytes: int | None = None
    """Size of the encoded image in bytes."""
    brightness: float | None = None
    """Mean luma, 0 (black) to 255 (white)."""
    sharpness: float | None = None
    """Variance of the Laplacian; larger is sharper, 0 is flat."""
    model_used: str = ""
    """Name of the model in the registry; empty if an import does not know it."""
    model_sha256: str = ""
    """SHA-256 of the model file, 64 hexadecimal digits; empty if an import does not know it."""
    confidence_threshold: float | None = None
    """Detections have a confidence above this, in [0, 1]."""
    nms_threshold: float | None = None
    """Overlap (IoU) above which the weaker of two boxes was dropped, in [0, 1]."""
    orientation: int | None = 1
    """EXIF orientation that was applied, 1 to 8; 1 is upright."""
    status: FrameStatus = FrameStatus.PROCESSED
    gate_reason: str | None = None
    """Why it was excluded before detection; None for a processed frame."""
    replay_of: str | None = None
    """`topic/partition/offset` of the dead letter that this frame replays."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """The producer's fields outside the contract, as JSON values."""
    detections: tuple[Detection, ...] = ()
    """The detections, strongest first."""
    detectors: tuple[DetectorUse, ...] = ()
    """All detectors that processed it, starting with `model_used`; empty if the fields above describe the only one."""
    gate_measurements: Mapping[str, float] = field(default_factory=dict)
    """The measurements that led to `gate_reason`, such as `brightness`; empty for a processed frame."""
    clock_source: ClockSource | None = None
    """Origin of `timestamp`; None if the producer did not say."""
    region_of_interest: Region = ()
    """The part of the image that counts; empty for all of it."""
    weak_detections: tuple[Detection, ...] = ()
    """Detections below `confidence_threshold`, strongest first. Only tracks use them; no count includes them."""
    sha256: str | None = None
    """SHA-256 of the encoded image that was read, 64 hexadecimal digits; None if no image was read, as for imports and
    for frames that were gated by their announcement."""

    @property
    def day(self) -> date:
        """The UTC day of the frame's own time."""
        return day_of(self.timestamp)

    def to_json(self) -> dict[str, Any]:
        """Returns the document of the metadata contract. Fields from `detectors` on are left out if they are empty."""
        document = {_NAMES.get(name, name): getattr(self, name) for name in _FIELDS} | {
            "timestamp": format_time(self.timestamp),
            "processing_timestamp": format_time(self.processing_timestamp) if self.processing_timestamp else None,
            "brightness": None if self.brightness is None else round(self.brightness, 3),
            "sharpness": None if self.sharpness is None else round(self.sharpness, 3),
            "status": self.status.value,
            "attributes": dict(self.attributes),
            "detections": [d.to_json() for d in self.detections],
            "detectors": [detector.to_json() for detector in self.detectors],
            "gate_measurements": {name: round(value, 6) for name, value in self.gate_measurements.items()},
            "clock_source": self.clock_source.value if self.clock_source else None,
            "region_of_interest": region_to_json(self.region_of_interest),
            "weak_detections": [d.to_json() for d in self.weak_detections],
        }
        return {name: value for name, value in document.items() if value or name not in _OPTIONAL}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Frame":
        """Reads the output of `to_json`."""
        renamed = {
            **{name: data[named] for name, named in _NAMES.items()},
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
        same = [name for name in _FIELDS if name not in renamed and (name in data or name not in _OPTIONAL)]
        return cls(**renamed, **{name: data[name] for name in same})


_FIELDS = tuple(each.name for each in fields(Frame))
_NAMES = {name: f"source_kafka_{name}" for name in ("topic", "partition", "offset")}
_OPTIONAL = frozenset(_FIELDS[_FIELDS.index("detectors") :])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An offset whose record or image is invalid. The bytes of the record are stored apart (`ledger.dead_letters`)."""

    offset: int
    code: DeadLetterCode
    """Why it could not become a frame."""
    message: str
    timestamp: datetime | None
    """The Kafka record's own time, UTC; None if it has none."""
    day: date | None
    """The UTC day it is listed under; None if its time is outside the accepted window."""
    source: str | None
    """The source; None if it could not be read."""
    image_path: str | None
    """The announced path; None if it could not be read."""
    raw_size_bytes: int
    """Size of the record's value in bytes; 0 for an empty or null value."""
    raw_sha256: str | None
    """SHA-256 of the record's value, 64 hexadecimal digits; None for a null value."""
    session: tuple[str, str | None] | None = None
    """The source and session whose accounts include the record; the session is None if the record does not name it.
    None for a notice, and for a record that names no source."""
    replay_of: str | None = None
    """`topic/partition/offset` of the dead letter that this record replays."""
    raw: RawRecord | None = field(default=None, compare=False)
    """The record until it is stored; None if it is too large to keep. Not part of the segment."""

    def to_json(self) -> dict[str, Any]:
        """Returns the dead letter as one JSON object. `session` and `replay_of` are left out if they are empty."""
        later = {"session": self.session, "replay_of": self.replay_of}
        return {
            "offset": self.offset,
            "code": self.code.value,
            "message": self.message,
            "timestamp": format_time(self.timestamp) if self.timestamp else None,
            "day": self.day.isoformat() if self.day else None,
            "source": self.source,
            "image_path": self.image_path,
            "raw_size_bytes": self.raw_size_bytes,
            "raw_sha256": self.raw_sha256,
            **{name: value for name, value in later.items() if value},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DeadLetter":
        """Reads the output of `to_json`."""
        renamed: dict[str, Any] = {
            "code": DeadLetterCode(data["code"]),
            "timestamp": parse_time(data["timestamp"]) if data["timestamp"] else None,
            "day": date.fromisoformat(data["day"]) if data["day"] else None,
            "session": tuple(data["session"]) if "session" in data else None,
            "replay_of": data.get("replay_of"),
            "raw": None,
        }
        same = cls.__dataclass_fields__.keys() - renamed.keys()
        return cls(**renamed, **{name: data[name] for name in same})


def make_dead_letter(
    record: KafkaRecord, error: BadInputError, *, message: FrameMessage | None, day: date | None, most_bytes: int
) -> DeadLetter:
    """Returns the dead letter of a record.

    Args:
        error: Why it cannot become a frame.
        message: The parsed message, if the record could be parsed.
        day: The UTC day it is listed under.
        most_bytes: Size limit for value, key and headers together. A replay of a larger record needs it from Kafka.
    """
    raw = None if record.value is None else RawRecord(record.value, record.key, record.headers)
    return DeadLetter(
        offset=record.offset,
        code=error.code,
        message=error.message,
        timestamp=record.time,
        day=day,
        source=message.source if message else None,
        image_path=message.image_path if message else None,
        raw_size_bytes=len(record.value or b""),
        raw_sha256=raw.sha256 if raw else None,
        session=_session_of(record, error.code, message),
        replay_of=record.replay_of,
        raw=raw if raw and raw.size_bytes <= most_bytes else None,
    )


def _session_of(
    record: KafkaRecord, code: DeadLetterCode, message: FrameMessage | None
) -> tuple[str, str | None] | None:
    """Returns the source and session that a rejected record names; None for a notice."""
    if message is not None:
        return message.source, _name(message.attributes.get(SESSION))
    said: Any = {}
    if code not in (DeadLetterCode.TOO_LARGE, DeadLetterCode.PROCESS_CRASHED):  # these are not parsed again
        with suppress(ValueError, RecursionError):
            said = json.loads(record.value or b"")
    said = said if isinstance(said, dict) else {}
    if said.get("kind") in list(NoticeKind) and IMAGE_FIELDS.isdisjoint(said):
        return None
    attributes = said.get("attributes")
    inner = attributes.get(SESSION) if isinstance(attributes, dict) else None
    source = _name(record.header("source") or (record.key or b"").decode("utf-8", "replace"))
    return (source, _name(record.header(SESSION) or inner or said.get(SESSION))) if source else None


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_TEXT and is_storable(value) else None


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that hold no record, half-open."""

    start: int
    end: int
    reason: GapReason

    def to_json(self) -> dict[str, Any]:
        """Returns the gap as one JSON object."""
        return {"from": self.start, "to": self.end, "reason": self.reason.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Gap":
        """Reads the output of `to_json`."""
        return cls(int(data["from"]), int(data["to"]), GapReason(data["reason"]))


RecordOutcome = Frame | DeadLetter | Notice
Outcome = RecordOutcome | Gap
"""Outcome of one offset, or of the offsets of a gap."""


def offsets_of(outcome: Outcome) -> tuple[int, int]:
    """Returns the half-open range of offsets that an outcome covers."""
    if isinstance(outcome, Gap):
        return outcome.start, outcome.end
    return outcome.offset, outcome.offset + 1


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """Returns the JSON object for a line of a segment: `{"frame": …}`, or with `dead_letter`, `notice` or `gap`."""
    return {_KINDS[type(outcome)]: outcome.to_json()}


_KINDS = {Frame: "frame", DeadLetter: "dead_letter", Notice: "notice", Gap: "gap"}


def outcome_from_json(data: Mapping[str, Any]) -> Outcome:
    """Reads the output of `outcome_to_json`.

    Raises:
        KeyError: The object is none of the four, or a field is missing.
        ValueError: A field has a value outside the contract.
    """
    if "frame" in data:
        return Frame.from_json(data["frame"])
    if "dead_letter" in data:
        return DeadLetter.from_json(data["dead_letter"])
    if "notice" in data:
        return Notice.from_json(data["notice"])
    return Gap.from_json(data["gap"])
