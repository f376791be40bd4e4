"""The message contract: reads and writes the Kafka records that announce frames.

Any bytes give either a `FrameMessage` or a `BadInputError` with a code. Besides the contract itself (`source`,
`image_path`, `timestamp`, `frame_number`, …), these values are accepted: `{"image_path"}` alone;
`{"bucket_name" | "bucket", "image_key", "timestamp"}`; `{"video_id", "frame_id", "timestamp"}` or other fields that
make up the path (`message_form`); and the encoded image itself, with its content type in the headers.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any

from imgpipeline.contracts.capture import (
    ClockSource,
    Gated,
    Region,
    read_clock_source,
    read_gated,
    read_region,
    region_to_json,
)
from imgpipeline.contracts.message_fields import (
    MAX_TEXT,
    checked_text,
    invalid_field,
    load_object,
    read_attributes,
    read_count,
    read_sha256,
)
from imgpipeline.contracts.message_form import MessageForm
from imgpipeline.contracts.records import REPLAY_OF, KafkaRecord, is_reference
from imgpipeline.contracts.times import format_time, parse_time

_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
_OTHER_FORMS = ("bucket_name", "bucket", "image_key", "video_id", "frame_id")
IMAGE_FIELDS = frozenset({"image_path", *_OTHER_FORMS})
"""A message with one of these announces a frame."""
SESSION = "session"
"""Attribute with the session of a frame's source. A record whose value has no attributes has it as a header."""
_DEFAULT_FORM = MessageForm()
_CONTRACT = frozenset(
    {"source", "image_path", "frame_number", "width", "height", "size_bytes", "sha256", "attributes"}
).union(_OTHER_FORMS)


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
    """Origin of `timestamp`; None if the producer does not say."""
    region_of_interest: Region = ()
    """The part of the image that counts; empty for all of it."""
    gated: Gated | None = None
    """Why the source excluded the frame: it is recorded as gated, and its image is not read."""

    def to_value(self, *, with_time: bool = True) -> bytes:
        """Returns the record value that announces this frame.

        If the record is the image itself, the value is the image, and source and time are sent as headers. `replay_of`
        is always sent as a header.

        Args:
            with_time: Whether to write the time. False leaves it to the timestamp of the Kafka record.
        """
        if self.image is not None:
            return self.image
        data = {
            "source": self.source,
            "image_path": self.image_path,
            "timestamp": format_time(self.timestamp) if with_time else None,
            "frame_number": self.frame_number,
            "width": self.width,
            "height": self.height,
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "clock_source": self.clock_source,
            "region_of_interest": region_to_json(self.region_of_interest) or None,
            "gated": self.gated.to_json() if self.gated else None,
            "attributes": dict(self.attributes) or None,
        }
        return json.dumps({k: v for k, v in data.items() if v is not None}, ensure_ascii=False).encode()


class MessageFormat(StrEnum):
    """Format of announcements."""

    NATIVE = "native"
    """All fields of the contract."""
    CLASSIC = "classic"
    """`{"image_path": "s3://…", "upload_timestamp": "…"}`, for existing consumers of such topics."""


def classic_value(message: FrameMessage, *, store_url: str, zone: tzinfo = UTC) -> bytes:
    """Returns the record value that announces a frame in the classic format.

    Args:
        message: The frame.
        store_url: URL of the store, to turn a key into a full URL. In a folder store, the path stays a key, because
            no URL of it could be read on other machines.
        zone: Time zone of `upload_timestamp`, which has no offset.

    Returns:
        The value. As in `FrameMessage.to_value`, a record that is the image itself stays the image.
    """
    if message.image is not None:
        return message.image
    path = message.image_path or ""
    if store_url.startswith("s3://") and not re.match(r"/|[A-Za-z][A-Za-z0-9+.-]*://", path):
        path = f"{store_url}/{path}"
    local = message.timestamp.astimezone(zone).replace(tzinfo=None)
    data = {"image_path": path, "upload_timestamp": local.isoformat(timespec="microseconds")}
    return json.dumps(data, ensure_ascii=False).encode()


def parse_message(record: KafkaRecord, form: MessageForm = _DEFAULT_FORM) -> FrameMessage:
    """Reads a Kafka record as the announcement of a frame.

    Args:
        record: The fetched record.
        form: How to read messages without the fields of the contract.

    Returns:
        The announced frame.

    Raises:
        BadInputError: `INVALID_MESSAGE`, naming the field, what was found and what was expected.
    """
    value = record.value
    if not value:
        raise invalid_field("value", "an empty value" if value == b"" else "null", "JSON or an encoded image")
    if holds_image(record):
        return _image_message(record, value, form)
    data = load_object(value)
    path, number = form.path_and_number_of(data)
    timestamp = form.time_of(data)
    return FrameMessage(
        source=form.source_of(data, path, _key_text(record), record.topic),
        image_path=path,
        timestamp=timestamp or _record_time(record),
        has_own_timestamp=timestamp is not None,
        frame_number=number,
        width=read_count(data, "width"),
        height=read_count(data, "height"),
        size_bytes=read_count(data, "size_bytes"),
        sha256=read_sha256(data),
        attributes=_session_of(record) | _frame_attributes(data, form),
        replay_of=read_replay_of(record),
        clock_source=read_clock_source(data),
        region_of_interest=read_region(data),
        gated=read_gated(data),
    )


def holds_image(record: KafkaRecord) -> bool:
    """Returns whether the record's value is the image itself."""
    content_type = record.header("content-type") or ""
    return content_type.startswith("image/") or (record.value or b"").startswith(_IMAGE_MAGIC)


def _image_message(record: KafkaRecord, value: bytes, form: MessageForm) -> FrameMessage:
    source = record.header("source") or form.source_of({}, None, _key_text(record), record.topic)
    announced = record.header("timestamp")
    try:
        timestamp = parse_time(announced, form.zone) if announced else None
    except ValueError:
        raise invalid_field("header timestamp", repr(announced), "an RFC 3339 time") from None
    return FrameMessage(
        source=checked_text("header source", source),
        image_path=None,
        timestamp=timestamp or _record_time(record),
        has_own_timestamp=timestamp is not None,
        attributes=_session_of(record),
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


def _session_of(record: KafkaRecord) -> dict[str, Any]:
    named = record.header(SESSION)
    return {SESSION: checked_text(f"header {SESSION}", named)} if named else {}


def _key_text(record: KafkaRecord) -> str | None:
    """Returns the record's key if it is text. A binary number (Kafka's LongSerializer) does not name a source."""
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


def _frame_attributes(data: Mapping[str, Any], form: MessageForm) -> dict[str, Any]:
    """Returns the attributes, including an invalid clock, region or gate, and times that were not read."""
    read: dict[str, object] = {"clock_source": read_clock_source(data), "region_of_interest": read_region(data)}
    read["gated"] = read_gated(data)
    known = _CONTRACT.union(form.timestamp_fields, (name for name, value in read.items() if value))
    return read_attributes(data, known)
