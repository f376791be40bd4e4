"""Every setting of imgpipeline, read from the environment and from `.env`.

The table in docs/operations.md is made from it. No secret is shown; a wrong value is refused by its setting's name.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict, SettingsError

from imgpipeline.contracts.timezones import TimezoneName
from imgpipeline.contracts.urls import check_endpoint, check_image_location, check_store_url
from imgpipeline.errors import ConfigurationError
from imgpipeline.store_patience import StorePatience
from imgpipeline.warning_limits import WarningLimits

PREFIX = "IMGPIPELINE_"
REDETECTION_MODEL = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]{0,99})(?:@(?P<threshold>0(?:\.\d{1,6})?))?", re.ASCII)
"""A model, and its threshold where it is not `IMGPIPELINE_CONFIDENCE_THRESHOLD`."""

_Locations = Annotated[tuple[Annotated[str, AfterValidator(check_image_location)], ...], NoDecode]


def _either(name: str, *others: str) -> AliasChoices:
    return AliasChoices(PREFIX + name, *others)


def _default_store_url() -> str:
    return (Path.cwd() / ".imgpipeline" / "store").as_uri()


class Settings(StorePatience, WarningLimits):
    """The settings of one process. Immutable; `load_settings` reads them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        env_ignore_empty=True,
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
    )

    store_url: Annotated[str, AfterValidator(check_store_url)] = Field(
        default_factory=_default_store_url,
        description="Object store and prefix: `s3://bucket/prefix` (also `s3a://`) or `file:///folder`. "
        "Default: `.imgpipeline/store` below the working folder.",
    )
    s3_endpoint: Annotated[str, AfterValidator(check_endpoint)] | None = Field(
        None, description="URL of an S3 server that is not AWS, such as `http://127.0.0.1:7070`."
    )
    s3_region: str = Field(
        "us-east-1",
        validation_alias=_either("S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="Region of the bucket.",
    )
    s3_access_key_id: SecretStr | None = Field(
        None,
        validation_alias=_either("S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        description="S3 access key id.",
    )
    s3_secret_access_key: SecretStr | None = Field(
        None,
        validation_alias=_either("S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
        description="S3 secret key.",
    )
    s3_session_token: SecretStr | None = Field(
        None,
        validation_alias=_either("S3_SESSION_TOKEN", "AWS_SESSION_TOKEN"),
        description="S3 session token.",
    )
    allowed_image_locations: _Locations = Field(
        (),
        description="Buckets and prefixes beside the store's own that images may be read from, separated by commas: "
        "`s3://camera-archive/2026,s3://other`. Everything else becomes a `PATH_NOT_ALLOWED` dead letter.",
    )
    kafka_bootstrap_servers: str = Field("localhost:9092", description="Brokers, `host:port`, separated by commas.")
    kafka_topic: str = Field("frames", pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="Topic of the announced frames.")
    kafka_group: str = Field("imgpipeline", description="Consumer group under which progress is shown to other tools.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="How to log in, where the security protocol has SASL in it."
    )
    kafka_username: str | None = Field(
        None, validation_alias=_either("KAFKA_USERNAME", "KAFKA_USERNAME"), description="User name for SASL."
    )
    kafka_password: SecretStr | None = Field(
        None, validation_alias=_either("KAFKA_PASSWORD", "KAFKA_PASSWORD"), description="Password for SASL."
    )
    kafka_ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the brokers' certificates."
    )
    kafka_api_version: str | None = Field(
        None,
        pattern=r"^\d+(\.\d+)+$",
        description="Protocol version of a broker that cannot be asked for it, such as `2.3` for the demo's; "
        "usually unset.",
    )
    model: str = Field("demo", description="Registered model (`imgpipeline models list`), or path of an ONNX file.")
    model_decoder: Literal["yolox", "yolov4"] | None = Field(
        None, description="Output layout of the model, where `IMGPIPELINE_MODEL` is a path."
    )
    model_labels: Path | None = Field(
        None,
        description="Text file with one label a line, where `IMGPIPELINE_MODEL` is a path. Default: COCO's 80.",
    )
    model_dir: Path | None = Field(
        None, description="Folder of pulled models. Default: `imgpipeline/models` in the user's cache folder."
    )
    model_backend: Literal["auto", "opencv", "onnxruntime", "openvino"] = Field(
        "auto", description="Inference library; `auto` takes the fastest installed one."
    )
    model_threads: int | None = Field(
        None, ge=1, le=256, description="Threads of one inference. Default: the cores are shared out to the workers."
    )
    detect_workers: int | None = Field(
        None, ge=1, le=256, description="Pictures that are decoded and detected at a time. Default: one a core."
    )
    confidence_threshold: float = Field(
        0.5, ge=0, lt=1, description="Detections have a confidence strictly above this."
    )
    nms_threshold: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Of two boxes that overlap (IoU) by more than this the weaker is dropped.",
    )
    summary_threshold: float = Field(
        0.0, ge=0, le=1, description="Summaries of labels leave out detections with a confidence below this."
    )
    observed_gap_s: float = Field(
        60.0,
        gt=0,
        le=3600,
        description="Of a longer gap between two frames of a source only this much counts as observed time, where the "
        "source sends no accounts.",
    )
    nms_per_class: bool | None = Field(
        None, description="Whether only boxes of one label compete. Default: as the model is registered."
    )
    reduced_decoding: bool = Field(
        True,
        description="Decode a JPEG that is at least twice as large as the model's input at 1/2, 1/4 or 1/8 of its "
        "size. `false` decodes at full size: slower, and slightly different confidences (docs/performance.md).",
    )
    lanes: int = Field(1, ge=1, le=1000, description="Detection runs at a time; topic partitions are spread over them.")
    linger_s: float = Field(20.0, ge=0, description="A detection run ends when its lane was quiet for this long.")
    max_run_s: float = Field(900.0, gt=0, description="A detection run ends after this long; the next one goes on.")
    takeover_s: float = Field(
        180.0, gt=0, description="A run without progress for this long is taken over by a new one."
    )
    retry_pause_s: float = Field(
        10.0,
        gt=0,
        le=600,
        description="Pause after the first run that failed at one place of the ledger. It doubles with each further "
        "one, up to ten minutes.",
    )
    max_look_s: float = Field(
        60.0,
        gt=0,
        description="Where runs have died, frames are worked one by one in a process of their own; one whose picture "
        "takes longer than this to decode and detect there counts as one that ended the process.",
    )
    commit_interval_s: float = Field(
        1.0,
        gt=0,
        description="A segment is closed at this age. Larger is cheaper, smaller is sooner visible.",
    )
    segment_max_records: int = Field(1000, ge=1, le=100_000, description="A segment is closed at this many outcomes.")
    prefetch_images: int = Field(32, ge=1, le=1024, description="Images that are read ahead of the detector.")
    max_message_bytes: int = Field(16 * 2**20, ge=1024, description="Larger Kafka records become `TOO_LARGE`.")
    max_image_bytes: int = Field(64 * 2**20, ge=1024, description="Larger image objects become `TOO_LARGE`, unread.")
    max_image_pixels: int = Field(100_000_000, ge=1, description="Images that claim more pixels are not decoded.")
    dead_letter_raw_bytes: int = Field(65_536, ge=0, description="Largest record value that a dead letter keeps.")
    video_frame_path: str = Field(
        "{video_id}/{frame_id}.jpg",
        description="Where the image of a `{video_id, frame_id}` message lies below the store's prefix.",
    )
    timezone: TimezoneName = Field("UTC", description="IANA time zone of the site, such as `Asia/Kolkata`: for EXIF "
        "and other times without an offset, and for days and hours of `summary` and `report`.")  # fmt: skip
    first_day: date = Field(
        date(2000, 1, 1),
        description="First accepted day (UTC) and first daily partition; earlier frames are dead letters.",
    )
    max_future_s: float = Field(
        3600.0,
        ge=0,
        le=86_400,
        description="Frames whose time is further ahead of the clock are dead letters.",
    )
    nightly_at: str = Field(
        "01:30",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="When yesterday gets its last build, and days left behind are built (`nightly_rebuild`, UTC).",
    )
    redetect_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Models that Dagster can re-process days with, `NAME` or `NAME@THRESHOLD`, separated by commas: "
        "`yolox-nano,demo@0.3`. Default: none.",
    )
    redetect_part_frames: int = Field(
        500, ge=1, le=100_000, description="A redetection keeps what it has found each time it saw this many frames."
    )
    duckdb_memory: str | None = Field(None, pattern=r"(?i)^\d+(\.\d+)? ?[kmgt]i?b$", description="Memory of a build or "
        "query, from `200MB`; what needs more spills to disk. Default: a quarter of the machine's.")  # fmt: skip
    table_object_bytes: int = Field(
        500_000_000,
        ge=1_000,
        le=5_000_000_000,
        description="A table that is larger than this lies in several objects of about this size, at most; see "
        "docs/tables.md.",
    )
    allow_gaps: bool = Field(
        False,
        description="Go on where Kafka has dropped records that were not read yet; the loss is recorded as a gap.",
    )

    @field_validator("allowed_image_locations", "redetect_models", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(v.strip() for v in value.split(",") if v.strip()) if isinstance(value, str) else value

    @field_validator("redetect_models")
    @classmethod
    def _check_models(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not REDETECTION_MODEL.fullmatch(text):
                raise ValueError(f"got {text!r}; expected NAME or NAME@THRESHOLD with a threshold from 0 to below 1")
        return value

    @field_validator("kafka_topic")
    @classmethod
    def _check_topic(cls, value: str) -> str:
        if value in (".", "..") or value.startswith("import."):
            raise ValueError("`.`, `..` and what begins with `import.` (imports) are no names of topics")
        return value

    def results_hash(self) -> str:
        """Returns a hash of what changes the results of a detection run, 16 hexadecimal digits.

        What was added later counts only where it is set, so that the hash of the other settings stays the same.
        """
        scale = () if self.reduced_decoding else ("full size",)
        labels = () if self.model_labels is None else ("labels", _content(self.model_labels))
        parts = (self.model, self.model_decoder, self.confidence_threshold, self.nms_threshold, self.nms_per_class,
                 self.max_image_bytes, self.max_image_pixels, self.max_message_bytes, self.first_day,
                 *scale, *labels)  # fmt: skip
        return sha256(repr(parts).encode()).hexdigest()[:16]


def _content(path: Path) -> str:
    """Returns the hash of a file, or its path where it cannot be read."""
    try:
        return sha256(path.expanduser().read_bytes()).hexdigest()
    except OSError:
        return str(path)


Clock = Callable[[], datetime]
"""Tells the time as aware UTC."""


def utc_now() -> datetime:
    """Returns the time of the machine's clock; the one place where it is read."""
    return datetime.now(UTC)


def load_settings(**overrides: object) -> Settings:
    """Reads the settings.

    Args:
        **overrides: Values by field name that win over environment and `.env`.

    Returns:
        The checked settings.

    Raises:
        ConfigurationError: A value is not allowed; the message names the variable, never a secret's value.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # the fields check what they are given
    except (SettingsError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(
            f"Settings cannot be read: {type(error).__name__}.", next_step="look at .env: is it readable UTF-8 text?"
        ) from None
    except ValidationError as error:
        problems = [f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors(include_input=False, include_url=False)]
        raise ConfigurationError(
            "Settings are wrong. " + "; ".join(problems) + ".",
            next_step="set them right in the environment or in .env; docs/operations.md lists them all",
        ) from None


def _variable(location: tuple[int | str, ...]) -> str:
    # A value that came from the environment is located by its variable, one from the caller by its field.
    name = str(location[0]) if location else "settings"
    return PREFIX + name.upper() if name in Settings.model_fields else name.upper()
