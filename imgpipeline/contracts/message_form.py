"""The form of other producers' messages: which fields hold the time, and how path and source are built from fields.

One form applies to all followed topics. The default reads the messages in docs/producers.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any

from imgpipeline.contracts.message_fields import as_text, checked_text, invalid_field, read_count, read_timestamp
from imgpipeline.contracts.templates import FieldTemplate
from imgpipeline.contracts.urls import as_s3_url

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
    """Time zone of times without an offset."""
    image_path: FieldTemplate = field(default_factory=lambda: FieldTemplate(IMAGE_PATH_TEMPLATE))
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

    def source_of(self, data: Mapping[str, Any], path: str | None, key: str | None, topic: str) -> str:
        """Returns the source of a frame.

        Args:
            data: The message; empty if the record is the image itself.
            path: Path of the image, if the message names it.
            key: The record's key, if it is text.
            topic: The record's topic.

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
        """Returns the frame number in the path: a `frame_id` of digits, or the only field with digits."""
        numbers = self.image_path.numbers
        text = values.get("frame_id") or (values[numbers[0]] if len(numbers) == 1 else "")
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


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
