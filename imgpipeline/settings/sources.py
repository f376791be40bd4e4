"""Sources: the site's time zone, the form of messages, the keys of stored images, MQTT, and the HTTP servers."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import NoDecode

from imgpipeline.contracts.messages import (
    IMAGE_PATH_TEMPLATE,
    TIMESTAMP_FIELDS,
    MessageForm,
    check_image_path_template,
    check_source_template,
    check_timestamp_fields,
)
from imgpipeline.contracts.templates import FieldTemplate, ImageKeyTemplate
from imgpipeline.contracts.times import TimezoneName, find_timezone
from imgpipeline.settings.variables import SettingsGroup, either, split_list


class SourceSettings(SettingsGroup):
    """Sources."""

    timezone: TimezoneName = "UTC"
    """IANA time zone of the site, such as `Asia/Kolkata`: for EXIF and other times without an offset, and for days and
    hours of `summary` and `report`."""
    observed_gap_s: float = Field(60.0, gt=0, le=3600)
    """Longest gap between two frames that counts as observed time, if the source sends no accounts. Of a longer gap,
    only this much counts."""
    rtsp_url: SecretStr | None = Field(None, validation_alias=either("RTSP_URL", "RTSP_URL"))
    """Camera of `ingest rtsp` and of sources of the kind `rtsp` that name none; it may contain `user:password@`."""


def _check_key_template(text: str) -> str:
    ImageKeyTemplate(text)
    return text


class MessageSettings(SettingsGroup):
    """How announcements are read and written."""

    timestamp_fields: Annotated[tuple[str, ...], NoDecode] = TIMESTAMP_FIELDS
    """Message fields that may hold the time of a frame, separated by commas; the first one present counts:
    `timestamp,upload_timestamp,backfill_timestamp`."""
    message_timezone: TimezoneName = "UTC"
    """IANA time zone of times without an offset in messages."""
    image_path_template: Annotated[str, AfterValidator(check_image_path_template)] = IMAGE_PATH_TEMPLATE
    """Path of the image if the message has no path: below the store's prefix, or `s3://…` or `/folder/…` in
    `IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS`. `{field}` is a field of the message, `{field:05d}` a whole number with at
    least 5 digits."""
    frames_database: SecretStr | None = None
    """URL of a PostgreSQL database whose table `frames(video_id, frame_id, path)` has the path of the image if the
    message has no path; replaces `IMGPIPELINE_IMAGE_PATH_TEMPLATE`."""
    source_template: Annotated[str, AfterValidator(check_source_template)] | None = None
    """Source of frames whose message does not name one: `{bucket}`, `{folder}` (of the image's path), `{key}` (of the
    record) and the fields of the message. Default: the key, unless it names the image, else the folder."""
    image_key_template: Annotated[str, AfterValidator(_check_key_template)] = ImageKeyTemplate().text
    """Where our own sources store images: `{source}`, `{day}`, `{time}`, `{digest}`, `{name}`, `{number}`. Some other
    programs expect `images/{name}`."""

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
        """Returns how to read the messages of these topics."""
        return MessageForm(
            timestamp_fields=self.timestamp_fields,
            zone=find_timezone(self.message_timezone),
            image_path=FieldTemplate(self.image_path_template),
            source=FieldTemplate(self.source_template) if self.source_template else None,
            topics=topics,
        )


_TOPIC = r"^[^+#/$\s\x00][^+#\s\x00]{0,199}$"


class MqttSettings(SettingsGroup):
    """MQTT."""

    mqtt_host: str = Field("localhost", validation_alias=either("MQTT_HOST", "MQTT_HOST"))
    """Host of the MQTT broker."""
    mqtt_port: int = Field(1883, ge=1, le=65_535, validation_alias=either("MQTT_PORT", "MQTT_PORT"))
    """Port of the MQTT broker; with TLS usually 8883."""
    mqtt_username: str | None = Field(None, validation_alias=either("MQTT_USERNAME", "MQTT_USERNAME"))
    """User name for the MQTT broker."""
    mqtt_password: SecretStr | None = Field(None, validation_alias=either("MQTT_PASSWORD", "MQTT_PASSWORD"))
    """Password for the MQTT broker."""
    mqtt_password_file: Path | None = None
    """File whose first line is the password, if `IMGPIPELINE_MQTT_PASSWORD` is not set."""
    mqtt_tls: bool = False
    """Whether to connect to the MQTT broker with TLS."""
    mqtt_ca_file: Path | None = None
    """PEM file of the authority that signed the broker's certificate; implies TLS. Default: the system's
    authorities."""
    mqtt_protocol: Literal["5", "3.1.1"] = "5"
    """Version of MQTT."""
    mqtt_client_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_.-]{1,100}$")] = "imgpipeline"
    """Client id of the MQTT session, for which the broker keeps messages. Two processes with the same id disconnect
    each other."""
    mqtt_session_expiry_s: int = Field(7 * 86_400, ge=0, le=0xFFFF_FFFE)
    """How long the MQTT broker keeps messages while no client is connected (MQTT 5)."""
    mqtt_max_in_flight: int = Field(64, ge=1, le=65_535)
    """Maximum number of messages that are received but not yet acknowledged."""
    mqtt_events_topic: Annotated[str, StringConstraints(pattern=_TOPIC)] = "imgpipeline"
    """Prefix of the MQTT topics on which `publish events --mqtt` publishes."""
    mqtt_discovery_topic: Annotated[str, StringConstraints(pattern=_TOPIC)] = "homeassistant"
    """Prefix of the MQTT topics on which Home Assistant discovers devices."""

    @model_validator(mode="after")
    def _imply_tls(self) -> Self:
        if self.mqtt_ca_file is not None:
            self.__dict__["mqtt_tls"] = True
        return self


class HttpSettings(SettingsGroup):
    """The HTTP source and the viewer."""

    api_keys_file: Path = Path(".imgpipeline") / "api_keys.json"
    """File with the API keys of `serve` and `serve-ingest`; without keys, they serve this machine only."""
    trusted_proxies: str = ""
    """Addresses or networks of proxies that authenticate users, such as `10.0.3.7,fd00::/8`. `serve` trusts their
    `IMGPIPELINE_IDENTITY_HEADER`."""
    identity_header: str = Field("X-Forwarded-User", pattern=r"^[A-Za-z0-9-]{1,100}$")
    """Header in which a trusted proxy names the user."""
    proxy_secret: SecretStr | None = None
    """Secret that a trusted proxy sends in the header `X-Proxy-Secret`. Where other programs share the proxies'
    network, as containers do, the address alone does not prove who sent a request."""
    dagster_url: str = Field("", pattern=r"^(https?://[^\s/@?#]+(/[^\s?#]*)?)?$")
    """Address of Dagster's UI, such as `https://dagster.example`; the viewer links to its runs."""
    viewer_url: str = Field("", pattern=r"^(https?://[^\s/@?#]+(/[^\s?#]*)?)?$")
    """Address of the viewer, such as `https://viewer.example`; Dagster's pages link to its days."""
    dataset_root: Path | None = Field(None, validation_alias=either("DATASET_ROOT", "DATASET_ROOT_DIR"))
    """Folder with the videos and `sequences/NAME/` that `POST /start/{video}` of `serve-ingest` plays."""
    jobs_dir: Path = Path(".imgpipeline") / "jobs"
    """Folder in which `serve-ingest` records its progress in playing videos."""
    start_waits: bool = False
    """`POST /start/{video}` answers when the last frame is announced, like the classic data generator, instead of at
    once."""
