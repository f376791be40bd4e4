"""The message contract: reads a Kafka record of the topic `frames` as the announcement of a frame, and writes one.

Any bytes give either a `FrameMessage` or a `BadInputError` with a code. Besides the contract itself (`source`,
`image_path`, `timestamp`, `frame_number`, …), these values are understood: `{"image_path"}` alone;
`{"bucket_name" | "bucket", "image_key", "timestamp"}`; `{"video_id", "frame_id", "timestamp"}`; and the encoded image
itself, with its content type in the headers.
"""

import json
import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from imgpipeline.contracts.capture import ClockSource, Region, read_clock_source, read_region, region_to_json
from imgpipeline.contracts.replays import REPLAY_OF, REPLAY_TIMESTAMP, is_reference
from imgpipeline.contracts.times import format_time, from_milliseconds, parse_time
from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import BadInputError, DeadLetterCode

MAX_TEXT = 1_024
"""Longest source or path, in characters."""
_MAX_DEPTH = 32
"""Deepest nesting of attributes."""
_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
_OTHER_FORMS = ("bucket_name", "bucket", "image_key", "video_id", "frame_id")
IMAGE_FIELDS = frozenset({"image_path", *_OTHER_FORMS})
"""A message with one of these announces a frame."""
_CONTRACT = frozenset(
    {"source", "image_path", "timestamp", "frame_number", "width", "height", "size_bytes", "sha256", "attributes"}
).union(_OTHER_FORMS)


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """One fetched record."""

    topic: str
    """Kafka topic."""
    partition: int
    """Kafka partition."""
    offset: int
    """Kafka offset."""
    timestamp_ms: int
    """The record's timestamp in Unix milliseconds; -1 if it has none."""
    key: bytes | None
    """The record's key."""
    value: bytes | None
    """The record's value."""
    headers: tuple[tuple[str, bytes], ...] = ()
    """The record's headers, in order."""

    @property
    def time(self) -> datetime | None:
        """The record's timestamp, UTC (for a replay, the original record's); None if it has none."""
        original = self.header(REPLAY_TIMESTAMP) if self.replay_of else None
        if original is not None and re.fullmatch(r"[0-9]{1,15}", original, re.ASCII):
            return from_milliseconds(int(original))
        return from_milliseconds(self.timestamp_ms)

    @property
    def replay_of(self) -> str | None:
        """The record that this one replays; None if it is not a replay or names no record."""
        text = self.header(REPLAY_OF)
        return text if text is not None and is_reference(text) else None

    def header(self, name: str) -> str | None:
        """Returns the last header with this name (case-insensitive) as text, or None.

        Bytes that are not UTF-8 become lone surrogates, which the check of the field rejects with the field's name.
        """
        found = [value for key, value in self.headers if key.lower() == name]
        return found[-1].decode("utf-8", "surrogateescape") if found and found[-1] is not None else None


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """One announced frame."""

    source: str
    """The camera, video or folder."""
    image_path: str | None
    """`s3://bucket/key` or a key below the store's prefix; None if the record is the image itself."""
    timestamp: datetime
    """The frame's time, UTC; the Kafka record's if none was announced."""
    has_own_timestamp: bool = True
    """False if `timestamp` is the Kafka record's."""
    frame_number: int | None = None
    """Number within the source, from 0."""
    width: int | None = None
    """Announced width in pixels."""
    height: int | None = None
    """Announced height in pixels."""
    size_bytes: int | None = None
    """Announced size of the encoded image; an image of another size is a dead letter."""
    sha256: str | None = None
    """Announced SHA-256 of the encoded image, lower-case hexadecimal; an image with another is a dead letter."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Further JSON values from the producer, including fields outside the contract."""
    image: bytes | None = None
    """The encoded image, if the record's value is the image itself."""
    replay_of: str | None = None
    """`topic/partition/offset` of the dead letter that this frame replays."""
    clock_source: ClockSource | None = None
    """Where `timestamp` is from; None if the producer does not say."""
    region_of_interest: Region = ()
    """The part of the image that counts; empty for all of it."""

    def to_value(self) -> bytes:
        """Returns the record value that announces this frame.

        If the record is the image itself, this is the image; its source and time are sent in the record's headers,
        as is `replay_of` in any case.
        """
        if self.image is not None:
            return self.image
        data = {
            "source": self.source,
            "image_path": self.image_path,
            "timestamp": format_time(self.timestamp) if self.has_own_timestamp else None,
            "frame_number": self.frame_number,
            "width": self.width,
            "height": self.height,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "clock_source": self.clock_source,
            "region_of_interest": region_to_json(self.region_of_interest) or None,
            "attributes": dict(self.attributes) or None,
        }
        return json.dumps({k: v for k, v in data.items() if v is not None}, ensure_ascii=False).encode()


def parse_message(record: KafkaRecord, *, video_frame_path: str = "{video_id}/{frame_id}.jpg") -> FrameMessage:
    """Reads a Kafka record as the announcement of a frame.

    Args:
        record: The fetched record.
        video_frame_path: Key of the image of a `{"video_id", "frame_id"}` message, below the store's prefix.

    Returns:
        The announced frame.

    Raises:
        BadInputError: `INVALID_MESSAGE`, naming the field, what was found and what was expected.
    """
    value = record.value
    if not value:
        raise invalid_field("value", "an empty value" if value == b"" else "null", "JSON or an encoded image")
    if holds_image(record):
        return _image_message(record, value)
    data = load_object(value)
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
        attributes=_frame_attributes(data),
        replay_of=read_replay_of(record),
        clock_source=read_clock_source(data),
        region_of_interest=read_region(data),
    )


def holds_image(record: KafkaRecord) -> bool:
    """Tells whether the record's value is the image itself."""
    content_type = record.header("content-type") or ""
    return content_type.startswith("image/") or (record.value or b"").startswith(_IMAGE_MAGIC)


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
        attributes={"session": checked_text("header session", named)} if (named := record.header("session")) else {},
        image=value,
        replay_of=read_replay_of(record),
    )


def read_replay_of(record: KafkaRecord) -> str | None:
    """Returns the record that this one replays; None if it is not a replay.

    Raises:
        BadInputError: Its header does not name a record.
    """
    text = record.header(REPLAY_OF)
    if text is None or is_reference(text):
        return text
    raise invalid_field("header replay_of", repr(text), "topic/partition/offset")


def load_object(value: bytes) -> dict[str, Any]:
    """Reads a record's value as a JSON object.

    Raises:
        BadInputError: It is not one that could be written back.
    """

    def refuse(constant: str) -> NoReturn:
        raise invalid_field("value", constant, "JSON without NaN and Infinity")

    def finite(text: str) -> float:
        number = float(text)  # 1e999 is valid JSON, but cannot be written back as JSON
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
    """The record's key if it is text: a binary number (Kafka's LongSerializer) does not name a source."""
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


def _frame_attributes(data: Mapping[str, Any]) -> dict[str, Any]:
    """A clock or region outside the contract stays an attribute."""
    read = {"clock_source": read_clock_source(data), "region_of_interest": read_region(data)}
    return read_attributes(data, _CONTRACT.union(name for name, value in read.items() if value))


def read_attributes(data: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Returns the `attributes` of a message, and its fields that are not known.

    Raises:
        BadInputError: They are not an object, or cannot be stored.
    """
    given = data.get("attributes")
    if given is not None and not isinstance(given, dict):
        raise invalid_field("attributes", f"a JSON {type(given).__name__}", "a JSON object")
    others = {name: value for name, value in data.items() if name not in known}
    merged = {**others, **(given or {})}
    check_storable(merged)
    return merged


def invalid_field(name: str, found: object, expected: str) -> BadInputError:
    """Returns the error for a field that does not hold what was expected."""
    shown = str(found)
    shown = shown if len(shown) <= 120 else shown[:117] + "..."
    return BadInputError(DeadLetterCode.INVALID_MESSAGE, f"{name}: got {shown}, expected {expected}.")


def checked_text(name: str, value: object) -> str:
    """Returns the value if it is storable text of 1 to `MAX_TEXT` characters.

    Raises:
        BadInputError: It is not; the message names the field.
    """
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT:
        raise invalid_field(name, _shown(value), f"text of 1 to {MAX_TEXT} characters")
    if not is_storable(value):
        raise invalid_field(name, _shown(value), "text without null characters and lone surrogates")
    return value


def is_storable(text: str) -> bool:
    """Returns whether text survives UTF-8, JSON, Parquet and SQL unchanged."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _shown(value: object) -> str:
    """The value as an error shows it; of nested values only the type, since their text may be huge."""
    return f"a JSON {type(value).__name__}" if isinstance(value, dict | list) else repr(value)


def as_text(value: object) -> object:
    """Returns a whole number as text, since a number may name a video, frame or camera; other values unchanged."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_count(data: Mapping[str, Any], name: str) -> int | None:
    """Returns a whole number from 0 to 2**63 - 1, or None if the field is missing.

    Raises:
        BadInputError: It is something else; the message names the field.
    """
    value = data.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value < 2**63:
        raise invalid_field(name, _shown(value), "a whole number from 0")
    return int(value)


def read_sha256(data: Mapping[str, Any]) -> str | None:
    """Returns 64 lower-case hexadecimal digits, or None if the field is missing.

    Raises:
        BadInputError: It is something else.
    """
    value = data.get("sha256")
    if value is None:
        return None
    text = checked_text("sha256", value).lower()
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise invalid_field("sha256", _shown(value), "64 hexadecimal digits")
    return text


def read_timestamp(data: Mapping[str, Any]) -> datetime | None:
    """Returns the announced time, or None if the field is missing.

    Raises:
        BadInputError: It is not a time.
    """
    value = data.get("timestamp")
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str | int | float):
            raise ValueError("neither text nor a number")
        return parse_time(value)
    except (ValueError, OverflowError):
        raise invalid_field("timestamp", _shown(value), "an RFC 3339 time such as 2026-01-09T12:00:00Z") from None


def check_storable(attributes: Mapping[str, Any]) -> None:
    """Rejects what later readers cannot handle: deep nesting (they recurse), null characters, lone surrogates.

    Raises:
        BadInputError: `INVALID_MESSAGE`, naming the attributes.
    """
    level: list[Any] = [attributes]
    for _ in range(_MAX_DEPTH):
        parts = [part for value in level for part in _parts(value)]
        level = [part for part in parts if isinstance(part, dict | list)]
        if not all(is_storable(part) for part in parts if isinstance(part, str)):
            raise invalid_field("attributes", "a null character or lone surrogate", "text that can be stored")
        if not level:
            return
    raise invalid_field("attributes", "deeper nesting", f"at most {_MAX_DEPTH} levels")


def _parts(value: Any) -> Iterable[Any]:
    return (*value.keys(), *value.values()) if isinstance(value, dict) else value
