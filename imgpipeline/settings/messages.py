"""What the messages of the followed topics look like, and under which keys our own sources store images."""

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode

from imgpipeline.contracts.image_keys import ImageKeyTemplate
from imgpipeline.contracts.message_form import (
    IMAGE_PATH_TEMPLATE,
    TIMESTAMP_FIELDS,
    MessageForm,
    check_image_path_template,
    check_source_template,
    check_timestamp_fields,
)
from imgpipeline.contracts.templates import FieldTemplate
from imgpipeline.contracts.timezones import TimezoneName, find_timezone
from imgpipeline.settings.variables import PREFIX, either, split_list


def _check_key_template(text: str) -> str:
    ImageKeyTemplate(text)
    return text


class MessageSettings(BaseSettings):
    """How announcements are read and written."""

    timestamp_fields: Annotated[tuple[str, ...], NoDecode] = Field(
        TIMESTAMP_FIELDS,
        description="Message fields that may hold the time of a frame, separated by commas; the first one present "
        "counts: `timestamp,upload_timestamp,backfill_timestamp`.",
    )
    message_timezone: TimezoneName = Field(
        "UTC",
        description="IANA time zone of times without an offset in messages.",
    )
    image_path_template: Annotated[str, AfterValidator(check_image_path_template)] = Field(
        IMAGE_PATH_TEMPLATE,
        validation_alias=either("IMAGE_PATH_TEMPLATE", f"{PREFIX}VIDEO_FRAME_PATH"),
        description="Where the image of a message without a path is, below the store's prefix, or as `s3://…` or "
        "`/folder/…` in `IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS`: `{field}` is a field of the message, `{field:05d}` a "
        "whole number with at least 5 digits.",
    )
    source_template: Annotated[str, AfterValidator(check_source_template)] | None = Field(
        None,
        description="Source of frames whose message does not name one: `{bucket}`, `{folder}` (of the image's path), "
        "`{key}` (of the record) and the fields of the message. Default: the key, unless it names the image, else the "
        "folder.",
    )
    image_key_template: Annotated[str, AfterValidator(_check_key_template)] = Field(
        ImageKeyTemplate().text,
        description="Where our own sources store images: `{source}`, `{day}`, `{time}`, `{digest}`, `{name}`, "
        "`{number}`. `images/{name}` is what other programs expect.",
    )

    @field_validator("timestamp_fields", mode="before")
    @classmethod
    def _split_fields(cls, value: object) -> object:
        return split_list(value)

    @field_validator("timestamp_fields")
    @classmethod
    def _check_fields(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_timestamp_fields(value)
        return value

    def message_form(self, topics: tuple[str, ...]) -> MessageForm:
        """Returns how the messages of these topics are read."""
        return MessageForm(
            timestamp_fields=self.timestamp_fields,
            zone=find_timezone(self.message_timezone),
            image_path=FieldTemplate(self.image_path_template),
            source=FieldTemplate(self.source_template) if self.source_template else None,
            topics=topics,
        )

    def changed_form(self) -> tuple[object, ...]:
        """Returns the settings by which messages are read otherwise than by default; empty if none is set."""
        own = (self.timestamp_fields, self.message_timezone, self.image_path_template, self.source_template)
        usual = (TIMESTAMP_FIELDS, "UTC", IMAGE_PATH_TEMPLATE, None)
        return () if own == usual else ("messages", *own)
