"""The file `sources.toml`: the options of each kind of source, and how a source is opened.

    [defaults]
    gate = { min_brightness = 20 }

    [[source]]
    name = "yard"
    kind = "rtsp"
    url = "rtsp://192.168.1.20/stream1"
    credentials_env = "YARD_CREDENTIALS"
    fps = 5

To add a kind of source, add a class here and name it in `AnyConfig`.
"""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from imgpipeline.contracts.times import HOURS_PATTERN, Hours, find_timezone
from imgpipeline.errors import ImgpipelineError
from imgpipeline.settings import Settings
from imgpipeline.settings.toml_file import read_toml
from imgpipeline.sources.mqtt.messages import Payload, Subscription
from imgpipeline.sources.mqtt.session import MqttSession
from imgpipeline.sources.options import (
    Polygon,
    Preparation,
    PublishOptions,
    check_derivation,
    check_size,
    default_options,
    parse_size,
)
from imgpipeline.sources.protocol import Source, SourceKind
from imgpipeline.sources.rtsp import RtspSource, camera_url, read_credentials
from imgpipeline.sources.sequence import SequenceSource
from imgpipeline.sources.stored_images import BucketSource
from imgpipeline.sources.video import FrameChoice, VideoSource
from imgpipeline.sources.watched_folder import After, WatchedFolder, WatchOptions
from imgpipeline.vision.gate import Gate

Name = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^\S(.*\S)?$")]
_Fraction = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GateConfig(_Strict):
    """`gate = { … }`: which frames are left out."""

    min_brightness: float | None = Field(None, ge=0, le=255)
    min_sharpness: float | None = Field(None, ge=0)
    min_change: float | None = Field(None, ge=0, le=255)
    hours: str | None = Field(None, pattern=HOURS_PATTERN)
    store_images: bool = True


class SourceConfig(_Strict):
    """The options that every kind of source has."""

    name: Name
    gate: GateConfig = Field(default_factory=lambda: GateConfig.model_validate({}))
    masks: tuple[Annotated[tuple[tuple[_Fraction, _Fraction], ...], Field(min_length=3)], ...] = ()
    resize: Annotated[str, AfterValidator(check_size)] | None = None
    derive: tuple[Annotated[str, AfterValidator(check_derivation)], ...] = ()
    queue_frames: int = Field(64, ge=1, le=100_000)

    def options(self, settings: Settings, kind: SourceKind) -> PublishOptions:
        """Returns how the frames of the source are published."""
        gate, zone = self.gate, find_timezone(settings.timezone)
        masks: tuple[Polygon, ...] = self.masks
        preparation = Preparation(
            gate=Gate(
                gate.min_brightness,
                gate.min_sharpness,
                gate.min_change,
                Hours.parse(gate.hours, zone) if gate.hours else None,
            ),
            store_gated=gate.store_images,
            masks=masks,
            resize=parse_size(self.resize) if self.resize else None,
            derive=self.derive,
        )
        return replace(default_options(kind), preparation=preparation, queue_frames=self.queue_frames)


class OpenableConfig(SourceConfig):
    """An entry that is one source. MQTT and HTTP deliver many sources instead."""

    @abstractmethod
    def open(self, settings: Settings) -> Source:
        """Opens the source.

        Raises:
            ConfigurationError: It cannot be opened with this configuration.
        """


class RtspConfig(OpenableConfig):
    """A camera. Without a URL, it is the one of RTSP_URL."""

    kind: Literal["rtsp"]
    url: str | None = Field(None, pattern=r"^rtsps?://")
    credentials_env: str | None = None
    credentials_file: Path | None = None
    fps: float | None = Field(None, gt=0, le=1000)
    stall_s: float = Field(10.0, gt=0, le=3600)

    def open(self, settings: Settings) -> Source:
        """Opens the camera's source; it connects when its frames are captured."""
        login = read_credentials(self.credentials_env, self.credentials_file)
        url = self.url or camera_url(settings)
        return RtspSource(self.name, url, credentials=login, fps=self.fps, stall_s=self.stall_s)


class MqttConfig(SourceConfig):
    """Images from an MQTT broker. Missing options come from IMGPIPELINE_MQTT_…. Wildcards name the source."""

    kind: Literal["mqtt"]
    host: str | None = None
    port: int | None = Field(None, ge=1, le=65_535)
    topic: str = "images/raw"
    username: str | None = None
    password_file: Path | None = None
    tls: bool | None = None
    ca_file: Path | None = None
    payload: Literal["image", "json"] = "image"

    def subscription(self) -> Subscription:
        """Returns which messages are frames."""
        return Subscription((self.topic,), None if set("+#") & set(self.topic) else self.name, Payload(self.payload))

    def settings(self, settings: Settings) -> Settings:
        """Returns the settings with the broker and the login of this source."""
        own: dict[str, object] = {"mqtt_client_id": f"{settings.mqtt_client_id}-{self.name}"}
        names = ("host", "port", "username", "password_file", "tls", "ca_file")
        own |= {f"mqtt_{name}": value for name in names if (value := getattr(self, name)) is not None}
        return settings.model_copy(update=own)


class FolderConfig(OpenableConfig):
    """A folder that is watched for new images until the supervisor ends."""

    kind: Literal["folder"]
    path: Path
    after: Literal["keep", "delete", "move"] = "keep"
    move_to: Path | None = None
    rescan_s: float = Field(2.0, gt=0, le=3600)

    def open(self, settings: Settings, state_file: Path | None = None) -> Source:
        """Opens the watched folder."""
        options = WatchOptions(After(self.after), self.move_to, self.rescan_s, state_file)
        return WatchedFolder(settings, self.path, self.name, options)


class VideoConfig(OpenableConfig):
    """A video file, played once."""

    kind: Literal["video"]
    path: Path
    every: int | None = Field(None, ge=1)
    fps: float | None = Field(None, gt=0, le=1000)
    realtime: bool = False

    def open(self, settings: Settings) -> Source:  # noqa: ARG002 - only some kinds need the settings
        """Opens the video."""
        choice = FrameChoice(every=self.every or 1, rate=self.fps)
        return VideoSource(self.path, self.name, choice=choice, realtime=self.realtime)


class SequenceConfig(OpenableConfig):
    """Numbered images, played once."""

    kind: Literal["sequence"]
    path: Path
    fps: float | None = Field(None, gt=0, le=1000)

    def open(self, settings: Settings) -> Source:
        """Lists the images."""
        return SequenceSource(settings, self.path, self.name, rate=self.fps)


class HttpConfig(SourceConfig):
    """Images posted over HTTP. The path of a request names the source. Missing options come from the settings."""

    kind: Literal["http"]
    host: str = "127.0.0.1"
    port: int = Field(8060, ge=1, le=65_535)
    api_keys_file: Path | None = None
    dataset_root: Path | None = None
    jobs_dir: Path | None = None

    def settings(self, settings: Settings) -> Settings:
        """Returns the settings with those of this source."""
        names = ("api_keys_file", "dataset_root", "jobs_dir")
        return settings.model_copy(update={name: value for name in names if (value := getattr(self, name))})


class S3Config(OpenableConfig):
    """Images in a bucket, announced once without being copied."""

    kind: Literal["s3"]
    url: str = Field(pattern=r"^s3a?://")
    suffixes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_nothing_is_prepared(self) -> "S3Config":
        if self.gate != GateConfig.model_validate({}) or self.masks or self.resize:
            raise ValueError("gate, masks and resize do not apply: images in a bucket are not changed")
        return self

    def open(self, settings: Settings) -> Source:
        """Checks the location; the objects are listed when they are captured."""
        return BucketSource(settings, self.url, self.name, suffixes=self.suffixes)


AnyConfig = Annotated[
    RtspConfig | MqttConfig | HttpConfig | FolderConfig | VideoConfig | SequenceConfig | S3Config,
    Field(discriminator="kind"),
]


class SourcesFile(_Strict):
    """The whole file."""

    source: tuple[AnyConfig, ...] = ()

    @model_validator(mode="after")
    def _check_names(self) -> "SourcesFile":
        names = [config.name for config in self.source]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"two sources are named {doubled[0]!r}")
        return self


def problem_of(config: AnyConfig, settings: Settings) -> ImgpipelineError | None:
    """Returns what is wrong with the credentials, files and folders of an entry, without connecting or writing."""
    try:
        if isinstance(config, MqttConfig):
            MqttSession(config.settings(settings), config.subscription().topics)
        elif isinstance(config, FolderConfig):
            config.open(settings, state_file=Path(":memory:"))
        elif isinstance(config, OpenableConfig):
            config.open(settings)
    except ImgpipelineError as error:
        return error
    return None


def load_sources(path: Path) -> tuple[AnyConfig, ...]:
    """Reads `sources.toml`; `[defaults]` apply to every source that does not override them.

    Raises:
        ConfigurationError: There is no such file, or it is not valid. The message names the source and the field, and
            never contains a secret.
    """
    return read_toml(path, page="docs/sources.md").with_defaults("source").validate(SourcesFile).source
