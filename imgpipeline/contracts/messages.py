"""The message contract: reads and writes the Kafka records that announce frames.

Any bytes give either a `FrameMessage` or a `BadInputError` with a code. Besides the contract itself (`source`,
`image_path`, `timestamp`, `frame_number`, …), these values are accepted: `{"image_path"}` alone;
`{"bucket_name" | "bucket", "image_key", "timestamp"}`; `{"video_id", "frame_id", "timestamp"}` or other fields that
make up the path (`MessageForm`); and the encoded image itself, with its content type in the headers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any
from uuid import NAMESPACE_URL, uuid5

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
    as_text,
    checked_text,
    invalid_field,
    load_object,
    read_attributes,
    read_count,
    read_sha256,
    read_timestamp,
)
from imgpipeline.contracts.records import REPLAY_OF, KafkaRecord, is_reference
from imgpipeline.contracts.templates import FieldTemplate, PathTemplate
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import ConfigurationError

TIMESTAMP_FIELDS = ("timestamp",)
"""Default fields for the time of a frame."""
IMAGE_PATH_TEMPLATE = "{video_id}/{frame_id}.jpg"
"""Default path of the image if the message has no path."""
_TAKEN = frozenset({"source", "image_path", "image_key", "bucket", "bucket_name", "attributes", "sha256", "kind"})
"""Fields that cannot hold a time."""


@dataclass(frozen=True, slots=True)
class MessageForm:
    """How the messages of the followed topics are read."""

    timestamp_fields: tuple[str, ...] = TIMESTAMP_FIELDS
    """Fields that may hold the time of a frame; the first one present counts."""
    zone: tzinfo = UTC
    image_path: PathTemplate = field(default_factory=lambda: FieldTemplate(IMAGE_PATH_TEMPLATE))
    """Path of the image if the message has neither a path nor bucket and key."""
    source: FieldTemplate | None = None
    """Source if the message has none. None for the default: record key, else folder or bucket, else topic."""
    topics: tuple[str, ...] = ()
    """The followed topics. A frame without another source is named after the first, so it has one id in all of them."""

    def time_of(self, data: Mapping[str, Any]) -> datetime | None:
        """Returns the frame's own time, UTC; None if the message has none.

        Raises:
            BadInputError: The value is not a time.
        """
        return read_timestamp(data, self.timestamp_fields, self.zone)

    def path_and_number_of(self, data: Mapping[str, Any]) -> tuple[str, int | None]:
        """Returns the path of the image, and the number of the frame if the message has one.

        Raises:
            BadInputError: A field is missing or wrong.
        """
        number = read_count(data, "frame_number")
        if data.get("image_path") is not None:
            return as_s3_url(checked_text("image_path", data["image_path"])), number
        bucket = data["bucket_name"] if data.get("bucket_name") is not None else data.get("bucket")
        if data.get("image_key") is not None and bucket is not None:
            key = checked_text("image_key", data["image_key"]).lstrip("/")
            return checked_text("bucket and image_key", f"s3://{checked_text('bucket', bucket)}/{key}"), number
        names = self.image_path.fields
        if any(data.get(name) is None for name in names):
            others = f"a path (or bucket_name and image_key, or {' and '.join(names)})"
            raise invalid_field("image_path", "nothing", others)
        values = {name: checked_text(name, _field_text(data[name])) for name in names}
        try:
            path = self.image_path.fill(values.__getitem__)
        except ValueError as error:
            raise invalid_field(str(error).partition(":")[0], data, "a whole number from 0") from None
        return as_s3_url(checked_text(" and ".join(names), path)), number if number is not None else self._number(
            values
        )

    def video_value(self, message: "FrameMessage", store_url: str) -> bytes:
        """Returns the record value `{"frame_id", "video_id", "timestamp"}`, whose readers find the image by the path.

        Raises:
            ConfigurationError: They would look for it where it is not.
        """
        path, number = message.image_path or "", message.frame_number
        data = classic_frame(message.source, message.timestamp, number, PurePosixPath(path).stem, message.attributes)
        expected, _ = self.path_and_number_of(data)
        if expected.removeprefix("file://") not in (path, f"{store_url}/{path}".removeprefix("file://")):
            raise ConfigurationError(
                f"{data['frame_id']} of {data['video_id']} is stored as {path}, but its message leads to {expected}.",
                next_step="set both templates to the same names: IMGPIPELINE_IMAGE_KEY_TEMPLATE="
                "videos/{source}_frame_{number:05d}.jpg and "
                "IMGPIPELINE_IMAGE_PATH_TEMPLATE=videos/{video_id}_{frame_id}.jpg",
            )
        return json.dumps(data, ensure_ascii=False).encode()

    def source_of(self, data: Mapping[str, Any], path: str | None, key: str | None, topic: str) -> str:
        """Returns the source of a frame.

        Args:
            data: The message; empty if the record is the image itself.
            path: Path of the image, if the message names it.
            key: The record's key, if it is text.

        Raises:
            BadInputError: The source is not text.
        """
        for name in ("source", "video_id"):
            if data.get(name) is not None:
                return checked_text(name, as_text(data[name]))
        folder, bucket = _folder_and_bucket(path or "")
        made = self._made_source({**data, "key": key, "folder": folder, "bucket": bucket})
        if made is not None:
            return checked_text("source", made)
        group = None if _names_image(key, path) else key
        return checked_text("source", group or folder or (self.topics[0] if topic in self.topics else topic))

    def _made_source(self, values: Mapping[str, Any]) -> str | None:
        """Returns the source from the template; None without a template, or if one of its fields is missing."""
        if self.source is None or any(values.get(name) in (None, "") for name in self.source.fields):
            return None
        texts = {name: checked_text(name, _field_text(values[name])) for name in self.source.fields}
        try:
            return self.source.fill(texts.__getitem__)
        except ValueError:
            return None

    def _number(self, values: Mapping[str, str]) -> int | None:
        """Returns the frame number in the path: a `frame_id` such as `7` or `frame_00007`, or the only number."""
        numbers = self.image_path.numbers
        text = values.get("frame_id") or (values[numbers[0]] if len(numbers) == 1 else "")
        found = re.fullmatch(r"(?:frame_)?([0-9]{1,18})", text)
        return int(found[1]) if found else None


def check_timestamp_fields(names: Sequence[str]) -> None:
    """Checks the fields that may hold the time.

    Raises:
        ValueError: There are none, or one is not a field name or has another meaning.
    """
    if not names:
        raise ValueError("expected at least one field, such as timestamp")
    for name in names:
        if name in _TAKEN or not re.fullmatch(r"[A-Za-z_][\w.-]{0,99}", name, re.ASCII):
            raise ValueError(
                f"{name!r} cannot be the field of a time; expected names such as timestamp,upload_timestamp"
            )


def check_image_path_template(text: str) -> str:
    """Returns a template for image paths unchanged.

    Raises:
        ValueError: It is malformed or has no field, or its paths could leave the store.
    """
    template = FieldTemplate(text)
    if not template.fields:
        raise ValueError("expected a field of the message, such as {image_num:05d}: else all paths are the same")
    scheme, has_scheme, rest = text.partition("://")
    expected = "expected a path below the store's prefix, s3://bucket/… or /folder/…"
    if ".." in template.literals or "\\" in text or text.startswith(("/{", "//", "file:///{")):
        raise ValueError(f"{expected}, without `..`")
    if has_scheme and scheme not in ("s3", "s3a") and not (scheme == "file" and rest.startswith("/")):
        raise ValueError(expected)
    return text


def check_source_template(text: str) -> str:
    """Returns a template for sources unchanged.

    Raises:
        ValueError: It is malformed or has no field.
    """
    if not FieldTemplate(text).fields:
        raise ValueError("expected a field, such as {bucket}, {folder}, {key} or a field of the message")
    return text


def _field_text(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return as_text(value)


def _folder_and_bucket(path: str) -> tuple[str, str]:
    rest, has_bucket, within = path.rpartition("://")
    bucket = within.partition("/")[0] if has_bucket and rest else ""
    return path.rpartition("/")[0].rpartition("/")[2], bucket


def _names_image(key: str | None, path: str | None) -> bool:
    """Returns whether a record's key names its image: as a source, it would make each image a separate source."""
    if not key or not path:
        return False
    named = as_s3_url(key).lstrip("/")
    return path == named or path.endswith(f"/{named}")


_IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")
_OBJECT = ("bucket_name", "bucket", "image_key")
IMAGE_FIELDS = frozenset({"image_path", *_OBJECT, "video_id", "frame_id"})
"""A message with one of these announces a frame."""
SESSION = "session"
"""Attribute with the session of a frame's source. A record whose value has no attributes has it as a header."""
_DEFAULT_FORM = MessageForm()
_CONTRACT = frozenset(
    {"source", "image_path", "frame_number", "width", "height", "size_bytes", "sha256", "attributes"}
).union(_OBJECT)
"""Fields that are not attributes. `video_id` and `frame_id` are: results in classic form repeat them as given."""


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
    height: int | None = None
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
        data = {each.name: getattr(self, each.name) for each in fields(self)} | {
            "timestamp": format_time(self.timestamp) if with_time else None,
            "region_of_interest": region_to_json(self.region_of_interest) or None,
            "gated": self.gated.to_json() if self.gated else None,
            "attributes": dict(self.attributes) or None,
        }
        sent = {name: value for name, value in data.items() if value is not None and name not in _NOT_IN_VALUE}
        return json.dumps(sent, ensure_ascii=False).encode()


_NOT_IN_VALUE = ("has_own_timestamp", "image", "replay_of")


class MessageFormat(StrEnum):
    """Format of announcements."""

    NATIVE = "native"
    """All fields of the contract."""
    CLASSIC = "classic"
    """`{"image_path": "s3://…", "upload_timestamp": "…"}`, for existing consumers of such topics."""
    CLASSIC_VIDEO = "classic-video"
    """`{"frame_id": "frame_00000", "video_id": "…", "timestamp": "…"}` without a key, on all followed topics."""
    BACKFILL = "backfill"
    """`{"image_path": "s3://…", "backfill_timestamp": "…"}`, for images that are announced later."""
    BUCKET = "bucket"
    """`{"image_key", "bucket_name", "timestamp", "uuid"}`, with the image's key as the record's key."""


ANNOUNCED_ONCE = (MessageFormat.CLASSIC, MessageFormat.BUCKET)
"""Forms without a frame id, so that consumers would process a frame that is announced again. A backfill is meant so."""


def public_path(path: str, store_url: str) -> str:
    """Returns the path of an image for other programs: in a bucket, a key below the store's prefix becomes a full URL.

    In a folder store, a key stays a key, because no URL of it could be read on other machines.
    """
    is_key = not re.match(r"/|[A-Za-z][A-Za-z0-9+.-]*://", path)
    return f"{store_url}/{path}" if is_key and store_url.startswith("s3://") else path


def bucket_and_key(path: str) -> tuple[str, str]:
    """Returns the bucket and the key in the URL of an image: `s3://bucket/key`."""
    bucket, _, key = path.removeprefix("s3://").partition("/")
    return bucket, key


def classic_value(
    message: FrameMessage, form: MessageFormat = MessageFormat.CLASSIC, *, store_url: str, zone: tzinfo = UTC
) -> bytes:
    """Returns the record value that announces a frame in a form of other systems.

    Args:
        form: Any but the native one; `BUCKET` only for an image in a bucket.
        store_url: URL of the store, as for `public_path`.
        zone: Time zone of `upload_timestamp` and `backfill_timestamp`, which have no offset.

    Returns:
        The value. As in `FrameMessage.to_value`, a record that is the image itself stays the image.
    """
    if message.image is not None:
        return message.image
    path = public_path(message.image_path or "", store_url)
    if form is MessageFormat.BUCKET:
        bucket, key = bucket_and_key(path)
        stamp = message.timestamp.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        # Announced again, an image has the same uuid, so that consumers can tell.
        uuid = str(uuid5(NAMESPACE_URL, f"{path} {stamp}"))
        data = {"image_key": key, "bucket_name": bucket, "timestamp": stamp, "uuid": uuid}
    else:
        field_name = "backfill_timestamp" if form is MessageFormat.BACKFILL else "upload_timestamp"
        local = message.timestamp.astimezone(zone).replace(tzinfo=None)
        data = {"image_path": path, field_name: local.isoformat(timespec="microseconds")}
    return json.dumps(data, ensure_ascii=False).encode()


def classic_frame(
    source: str, timestamp: datetime, number: int | None, other_name: str, attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the fields that identify a frame in the messages of classic detectors and trackers.

    Args:
        other_name: Name of a frame that has no number.
        attributes: Its attributes; a `frame_id` and a `video_id` of the producer come before our own names.
    """
    own = {"frame_id": other_name if number is None else f"frame_{number:05d}", "video_id": source}
    given = {name: attributes[name] for name in own if attributes.get(name) is not None}
    return {**own, **given, "timestamp": timestamp.astimezone(UTC).isoformat()}


def parse_message(record: KafkaRecord, form: MessageForm = _DEFAULT_FORM) -> FrameMessage:
    """Reads a Kafka record as the announcement of a frame.

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
    named = None if data.keys() & {"source", "video_id"} else record.header("source")
    return FrameMessage(
        source=checked_text("header source", named)
        if named
        else form.source_of(data, path, _key_text(record), record.topic),
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
