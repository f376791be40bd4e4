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
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from imgpipeline.contracts.message_fields import (
    MAX_TEXT,
    as_text,
    check_storable,
    checked_text,
    invalid_field,
    read_count,
    read_sha256,
    read_timestamp,
)
from imgpipeline.contracts.replays import REPLAY_OF, REPLAY_TIMESTAMP, is_reference
from imgpipeline.contracts.times import format_time, from_milliseconds, parse_time
from imgpipeline.contracts.urls import as_s3_url

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
        """The record's own time, UTC, and of a replay the original's; None where it has none."""
        original = self.header(REPLAY_TIMESTAMP) if self.replay_of else None
        if original is not None and re.fullmatch(r"[0-9]{1,15}", original, re.ASCII):
            return from_milliseconds(int(original))
        return from_milliseconds(self.timestamp_ms)

    @property
    def replay_of(self) -> str | None:
        """Which record it announces again; None where it is no replay, or names no record."""
        text = self.header(REPLAY_OF)
        return text if text is not None and is_reference(text) else None

    def header(self, name: str) -> str | None:
        """Returns the last header of a name (case-insensitive) as text, or None.

        Bytes that are not UTF-8 become lone surrogates, which no field may hold: so they are refused there, by name.
        """
        found = [value for key, value in self.headers if key.lower() == name]
        return found[-1].decode("utf-8", "surrogateescape") if found and found[-1] is not None else None


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
        """Returns the record value that announces this frame, by the contract.

        Where the record is the image itself that is the image; its source and time travel in the record's headers,
        as `replay_of` always does.
        """
        if self.image is not None:
            return self.image
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
        raise invalid_field("value", "an empty value" if value == b"" else "null", "JSON or an encoded image")
    content_type = record.header("content-type") or ""
    if content_type.startswith("image/") or value.startswith(_IMAGE_MAGIC):
        return _image_message(record, value)
    data = _load_object(value)
    path, number = _path_and_number(data, video_frame_path)
    timestamp = read_timestamp(data)
    return FrameMessage(
        source=_source(data, record, path),
        image_path=path,
        timestamp=timestamp or _record_time(record),
        has_own_timestamp=timestamp is not None,
        frame_number=number,
        width=read_count(data, "width"),
        height=read_count(data, "height"),
        size_bytes=read_count(data, "size_bytes"),
        sha256=read_sha256(data),
        attributes=_attributes(data),
        replay_of=_replay_of(record),
    )


def _image_message(record: KafkaRecord, value: bytes) -> FrameMessage:
    source = record.header("source") or _key_text(record) or record.topic
    announced = record.header("timestamp")
    try:
        timestamp = parse_time(announced) if announced else None
    except ValueError:
        raise invalid_field("header timestamp", repr(announced), "an RFC 3339 time") from None
    return FrameMessage(
        source=checked_text("header source", source),
        image_path=None,
        timestamp=timestamp or _record_time(record),
        has_own_timestamp=timestamp is not None,
        image=value,
        replay_of=_replay_of(record),
    )


def _replay_of(record: KafkaRecord) -> str | None:
    text = record.header(REPLAY_OF)
    if text is None or is_reference(text):
        return text
    raise invalid_field("header replay_of", repr(text), "topic/partition/offset")


def _load_object(value: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise invalid_field("value", constant, "JSON without NaN and Infinity")

    def finite(text: str) -> float:
        number = float(text)  # 1e999 is JSON, but no number that could be written again
        return number if math.isfinite(number) else refuse(text)

    try:
        data = json.loads(value.decode("utf-8"), parse_constant=refuse, parse_float=finite)
    except UnicodeDecodeError as error:
        raise invalid_field("value", f"a byte that is not UTF-8 at position {error.start}", "UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise invalid_field("value", f"no JSON ({error})", "a JSON object") from None
    if not isinstance(data, dict):
        raise invalid_field("value", f"a JSON {type(data).__name__}", "a JSON object")
    return data


def _path_and_number(data: Mapping[str, Any], video_frame_path: str) -> tuple[str, int | None]:
    number = read_count(data, "frame_number")
    if data.get("image_path") is not None:
        return as_s3_url(checked_text("image_path", data["image_path"])), number
    bucket = data["bucket_name"] if data.get("bucket_name") is not None else data.get("bucket")
    if data.get("image_key") is not None and bucket is not None:
        key = checked_text("image_key", data["image_key"]).lstrip("/")
        return checked_text("bucket and image_key", f"s3://{checked_text('bucket', bucket)}/{key}"), number
    if data.get("video_id") is not None and data.get("frame_id") is not None:
        names = {name: checked_text(name, as_text(data[name])) for name in ("video_id", "frame_id")}
        path = re.sub(r"\{(video_id|frame_id)\}", lambda match: names[match[1]], video_frame_path)
        if number is None and re.fullmatch(r"[0-9]{1,18}", names["frame_id"]):
            number = int(names["frame_id"])
        return as_s3_url(checked_text("video_id and frame_id", path)), number
    raise invalid_field("image_path", "nothing", "a path (or bucket_name and image_key, or video_id and frame_id)")


def _source(data: Mapping[str, Any], record: KafkaRecord, path: str) -> str:
    for name in ("source", "video_id"):
        if data.get(name) is not None:
            return checked_text(name, as_text(data[name]))
    folder = path.rpartition("/")[0].rpartition("/")[2]
    return checked_text("source", _key_text(record) or folder or record.topic)


def _key_text(record: KafkaRecord) -> str | None:
    """The record's key, where it is text: a number in binary (Kafka's LongSerializer) names no source."""
    try:
        text = (record.key or b"").decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and 0 < len(text) <= MAX_TEXT else None


def _record_time(record: KafkaRecord) -> datetime:
    time = record.time
    if time is None:
        raise invalid_field("timestamp", "none in the message and none in the Kafka record", "one of the two")
    return time


def _attributes(data: Mapping[str, Any]) -> dict[str, Any]:
    given = data.get("attributes")
    if given is not None and not isinstance(given, dict):
        raise invalid_field("attributes", f"a JSON {type(given).__name__}", "a JSON object")
    others = {name: value for name, value in data.items() if name not in _CONTRACT}
    merged = {**others, **(given or {})}
    check_storable(merged)
    return merged
