"""The message contract: what a record of the topic `frames` may say, and what it means.

Owns reading a Kafka record into a `FrameMessage` and writing one for our own sources. It promises that whatever
the bytes are, the answer is a `FrameMessage` or a `BadInputError` with a code. Opening the announced image does
not belong here.

Accepted values, beside the contract itself (`source`, `image_path`, `timestamp`, `frame_number`, …):
`{"image_path"}` alone; `{"bucket_name" | "bucket", "image_key", "timestamp"}`;
`{"video_id", "frame_id", "timestamp"}`; and the encoded image itself, with its content type in the headers.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imgpipeline.contracts.times import format_time, from_milliseconds, parse_time
from imgpipeline.errors import BadInputError, DeadLetterCode

MAX_TEXT = 1_024
"""Longest source or path, in characters."""
_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
_OTHER_FORMS = ("bucket_name", "bucket", "image_key", "video_id", "frame_id")
_CONTRACT = frozenset(
    {"source", "image_path", "timestamp", "frame_number", "width", "height", "size_bytes", "sha256", "attributes"}
).union(_OTHER_FORMS)


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """One record as it was fetched."""

    topic: str
    """Kafka topic."""
    partition: int
    """Kafka partition."""
    offset: int
    """Kafka offset."""
    timestamp_ms: int
    """The record's own time in Unix milliseconds; -1 where it has none."""
    key: bytes | None
    """The record's key."""
    value: bytes | None
    """The record's value."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """The record's headers, in order."""

    @property
    def time(self) -> datetime | None:
        """The record's own time, UTC; None where it has none."""
        return from_milliseconds(self.timestamp_ms)

    def header(self, name: str) -> str | None:
        """Returns the last header of a name as text (case-insensitive), or None."""
        found = [value for key, value in self.headers if key.lower() == name]
        return found[-1].decode("utf-8", "replace") if found and found[-1] is not None else None


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """One announced frame."""

    source: str
    """The camera, video or folder."""
    image_path: str | None
    """`s3://bucket/key` or a key below the store's prefix; None where the record is the image itself."""
    timestamp: datetime
    """The frame's own time, UTC; the Kafka record's where none was announced."""
    has_own_timestamp: bool = True
    """False where `timestamp` is the Kafka record's."""
    frame_number: int | None = None
    """Number within the source, from 0."""
    width: int | None = None
    """Announced width in pixels."""
    height: int | None = None
    """Announced height in pixels."""
    size_bytes: int | None = None
    """Announced size of the encoded image; a different one is a dead letter."""
    sha256: str | None = None
    """Announced SHA-256 of the encoded image, lower-case hexadecimal; a different one is a dead letter."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """What else the producer said, as JSON values; fields outside the contract are put here too."""
    image: bytes | None = None
    """The encoded image, where the record's value is the image itself."""
    replay_of: str | None = None
    """`topic/partition/offset` of the dead letter that this frame is announced again for."""

    def to_value(self) -> bytes:
        """Returns the record value that announces this frame, by the contract."""
        data = {
            "source": self.source,
            "image_path": self.image_path,
            "timestamp": format_time(self.timestamp),
            "frame_number": self.frame_number,
            "width": self.width,
            "height": self.height,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "attributes": dict(self.attributes) or None,
        }
        return json.dumps({k: v for k, v in data.items() if v is not None}, ensure_ascii=False).encode()


def parse_message(record: KafkaRecord, *, video_frame_path: str = "{video_id}/{frame_id}.jpg") -> FrameMessage:
    """Reads a Kafka record as the announcement of a frame.

    Args:
        record: The record as fetched.
        video_frame_path: Where the image of a `{"video_id", "frame_id"}` message lies below the store's prefix.

    Returns:
        The announced frame.

    Raises:
        BadInputError: `INVALID_MESSAGE`, naming the field, what was found and what was expected.
    """
    value = record.value
    if not value:
        raise _invalid("value", "an empty value" if value == b"" else "null", "JSON or an encoded image")
    content_type = record.header("content-type") or ""
    if content_type.startswith("image/") or value.startswith(_IMAGE_MAGIC):
        return _image_message(record, value)
    data = _load_object(value)
    path, number = _path_and_number(data, video_frame_path)
    timestamp = _timestamp(data)
    return FrameMessage(
        source=_source(data, record, path),
        image_path=path,
        timestamp=timestamp or _record_time(record),
        has_own_timestamp=timestamp is not None,
        frame_number=number,
        width=_count(data, "width"),
        height=_count(data, "height"),
        size_bytes=_count(data, "size_bytes"),
        sha256=_sha256(data),
        attributes=_attributes(data),
        replay_of=record.header("replay_of"),
    )


def _invalid(name: str, found: object, expected: str) -> BadInputError:
    shown = str(found)
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return BadInputError(DeadLetterCode.INVALID_MESSAGE, f"{name}: got {shown}, expected {expected}.")


def _image_message(record: KafkaRecord, value: bytes) -> FrameMessage:
    source = record.header("source") or _key_text(record) or record.topic
    announced = record.header("timestamp")
    try:
        timestamp = parse_time(announced) if announced else None
    except ValueError:
        raise _invalid("header timestamp", repr(announced), "an RFC 3339 time") from None
    return FrameMessage(
        source=_checked_text("header source", source),
        image_path=None,
        timestamp=timestamp or _record_time(record),
        has_own_timestamp=timestamp is not None,
        image=value,
        replay_of=record.header("replay_of"),
    )


def _load_object(value: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise _invalid("value", constant, "JSON without NaN and Infinity")

    try:
        data = json.loads(value.decode("utf-8"), parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise _invalid("value", f"a byte that is not UTF-8 at position {error.start}", "UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _invalid("value", f"no JSON ({error})", "a JSON object") from None
    if not isinstance(data, dict):
        raise _invalid("value", f"a JSON {type(data).__name__}", "a JSON object")
    return data


def _checked_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
        raise _invalid(name, repr(value), f"text of 1 to {MAX_TEXT} characters")
    if not _is_plain(value):
        raise _invalid(name, repr(value), "text without null characters and lone surrogates")
    return value


def _is_plain(text: str) -> bool:
    """Whether text round-trips through UTF-8, JSON, Parquet and SQL."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _path_and_number(data: Mapping[str, Any], video_frame_path: str) -> tuple[str, int | None]:
    number = _count(data, "frame_number")
    if data.get("image_path") is not None:
        return _checked_text("image_path", data["image_path"]), number
    bucket = data.get("bucket_name", data.get("bucket"))
    if data.get("image_key") is not None and bucket is not None:
        name = _checked_text("bucket", bucket)
        return f"s3://{name}/{_checked_text('image_key', data['image_key']).lstrip('/')}", number
    if data.get("video_id") is not None and data.get("frame_id") is not None:
        video, frame = str(data["video_id"]), str(data["frame_id"])
        path = video_frame_path.replace("{video_id}", video).replace("{frame_id}", frame)
        return _checked_text("video_id and frame_id", path), int(frame) if frame.isdecimal() and len(
            frame
        ) < 16 else None
    raise _invalid("image_path", "nothing", "a path (or bucket_name and image_key, or video_id and frame_id)")


def _source(data: Mapping[str, Any], record: KafkaRecord, path: str) -> str:
    for name in ("source", "video_id"):
        if data.get(name) is not None:
            value = data[name]
            return _checked_text(name, str(value) if isinstance(value, int) else value)
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return _checked_text("source", _key_text(record) or folder or record.topic)


def _key_text(record: KafkaRecord) -> str | None:
    try:
        return (record.key or b"").decode("utf-8") or None
    except UnicodeDecodeError:
        return None


def _timestamp(data: Mapping[str, Any]) -> datetime | None:
    value = data.get("timestamp")
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str | int | float):
            raise ValueError("neither text nor a number")
        return parse_time(value)
    except (ValueError, OverflowError):
        raise _invalid("timestamp", repr(value), "an RFC 3339 time such as 2026-01-09T12:00:00Z") from None


def _record_time(record: KafkaRecord) -> datetime:
    time = record.time
    if time is None:
        raise _invalid("timestamp", "none in the message and none in the Kafka record", "one of the two")
    return time


def _count(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value < 2**63:
        raise _invalid(name, repr(value), "a whole number from 0")
    return int(value)


def _sha256(data: Mapping[str, Any]) -> str | None:
    value = data.get("sha256")
    if value is None:
        return None
    text = _checked_text("sha256", value).lower()
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise _invalid("sha256", repr(value), "64 hexadecimal digits")
    return text


def _attributes(data: Mapping[str, Any]) -> dict[str, Any]:
    given = data.get("attributes")
    if given is not None and not isinstance(given, dict):
        raise _invalid("attributes", f"a JSON {type(given).__name__}", "a JSON object")
    others = {name: value for name, value in data.items() if name not in _CONTRACT}
    merged = {**others, **(given or {})}
    try:
        plain = _is_plain(json.dumps(merged, ensure_ascii=False).replace("\\u0000", "\x00"))
    except (RecursionError, ValueError):
        plain = False
    if not plain:
        raise _invalid("attributes", "values that cannot be stored", "JSON without null characters and lone surrogates")
    return merged
