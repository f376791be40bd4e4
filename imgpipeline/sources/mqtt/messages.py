"""Turns MQTT messages into frames: the topic names the source, the payload is an image or a JSON document with one."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from paho.mqtt.client import topic_matches_sub

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.message_fields import (
    MAX_TEXT,
    checked_text,
    load_object,
    read_attributes,
    read_count,
    read_image,
    read_timestamp,
)
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.notices import Notice
from imgpipeline.errors import BadInputError, UsageError
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.sources.storing import content_name

LOG = logging.getLogger(__name__)
DEFAULT_TOPIC = "images/raw"
_SHARED = "$share/"


class Payload(StrEnum):
    """What the messages contain."""

    IMAGE = "image"
    JSON = "json"
    """`{"image": base64, "timestamp", "number", "attributes"}`; all fields but the image are optional."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which messages are frames, and of which source."""

    topics: tuple[str, ...] = (DEFAULT_TOPIC,)
    """Topic filters; the parts that `+` and `#` match name the source."""
    source: str | None = None
    """The source of all messages; None: the matched parts, or the topic if the filter has no wildcard."""
    payload: Payload = Payload.IMAGE
    _patterns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        for topic in self.topics:
            check_filter(topic)
        if not self.topics:
            raise UsageError("No topic is given.", next_step=f"name one: --topic {DEFAULT_TOPIC}")
        if self.source is not None and any("+" in topic or "#" in topic for topic in self.topics):
            raise UsageError(
                f"--source {self.source!r} would be the source of all topics that a wildcard matches.",
                next_step="omit --source: the text that + and # match names the source",
            )
        object.__setattr__(self, "_patterns", tuple(_without_share(topic) for topic in self.topics))

    def source_of(self, topic: str) -> str:
        """Returns the source of a message: the parts of its topic that the wildcards match, joined by `/`."""
        if self.source is not None:
            return self.source
        pattern = next((one for one in self._patterns if topic_matches_sub(one, topic)), topic)
        named = "/".join(_matched_parts(pattern.split("/"), topic.split("/"))) or topic
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in named)[:MAX_TEXT]
        return shown if shown.strip() else topic

    def delivers(self, message: FrameMessage | Notice) -> bool:
        """Returns whether a record from Kafka announces a frame of these messages."""
        topic = str(message.attributes.get("mqtt_topic", "")) if isinstance(message, FrameMessage) else ""
        return bool(topic) and any(topic_matches_sub(pattern, topic) for pattern in self._patterns)

    def frame_of(self, topic: str, payload: bytes, received: datetime) -> CapturedFrame:
        """Returns the frame of a message.

        A payload that is not a valid document becomes the image of the frame. It cannot be decoded, so the frame ends
        as a dead letter.
        """
        if self.payload is Payload.JSON:
            try:
                return _json_frame(topic, payload, received)
            except BadInputError as error:
                LOG.warning("%s: %s", topic, error)
                attributes = {"mqtt_topic": topic, "mqtt_error": error.message[:MAX_TEXT]}
                return _untimed_frame(payload, received, attributes)
        return _untimed_frame(payload, received, {"mqtt_topic": topic})


def parse_payload(text: str) -> Payload:
    """Reads the name of a payload.

    Raises:
        UsageError: No payload has this name.
    """
    try:
        return Payload(text)
    except ValueError:
        raise UsageError(f"There is no payload {text!r}.", next_step="choose image or json") from None


def check_filter(topic: str) -> None:
    """Checks a topic filter (MQTT 5.0, 4.7).

    Raises:
        UsageError: It is not a topic filter.
    """
    parts = _without_share(topic).split("/")
    wrong = any(("+" in part and part != "+") or ("#" in part and part != "#") for part in parts)
    if not topic or "\0" in topic or wrong or "#" in parts[:-1] or (topic.startswith(_SHARED) and topic.count("/") < 2):
        raise UsageError(
            f"{topic!r} is not a topic filter.",
            next_step=f"name one such as {DEFAULT_TOPIC}, images/+/raw or site/#; + and # stand for whole parts",
        )


def _without_share(topic: str) -> str:
    return topic.split("/", 2)[2] if topic.startswith(_SHARED) and topic.count("/") > 1 else topic


def _matched_parts(pattern: Sequence[str], parts: Sequence[str]) -> list[str]:
    if pattern[-1] == "#":
        head = len(pattern) - 1
        return [*_matched_parts([*pattern[:-1], ""], [*parts[:head], ""]), *parts[head:]]
    return [part for wanted, part in zip(pattern, parts, strict=False) if wanted == "+"]


def _untimed_frame(
    data: bytes, received: datetime, attributes: Mapping[str, object], number: int | None = None
) -> CapturedFrame:
    digest = sha256(data).hexdigest()
    return CapturedFrame(
        received,
        ClockSource.RECEIVER,
        data=data,
        sha256=digest,
        name=content_name(data, digest),
        number=number,
        attributes=attributes,
        received=received,
        has_own_timestamp=False,
    )


def _json_frame(topic: str, payload: bytes, received: datetime) -> CapturedFrame:
    document = load_object(payload)
    data = read_image(document)
    timestamp, number = read_timestamp(document), read_count(document, "number")
    attributes = read_attributes(document, {"image", "timestamp", "number", "attributes"})
    attributes["mqtt_topic"] = checked_text("topic", topic)
    if timestamp is None:
        return _untimed_frame(data, received, attributes, number)
    return CapturedFrame(
        timestamp, ClockSource.PRODUCER, data=data, number=number, attributes=attributes, received=received
    )
