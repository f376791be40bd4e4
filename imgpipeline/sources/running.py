"""From one `[[source]]` of `sources.toml` to a running source: the one place that knows all kinds."""

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch
from threading import Event

from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.bucket import BucketSource
from imgpipeline.sources.configuration import (
    AnyConfig,
    FolderConfig,
    HttpConfig,
    MqttConfig,
    RtspConfig,
    S3Config,
    SequenceConfig,
    VideoConfig,
)
from imgpipeline.sources.mqtt.ingest import ingest_mqtt
from imgpipeline.sources.mqtt.messages import Payload, Subscription
from imgpipeline.sources.options import PublishOptions, default_options
from imgpipeline.sources.protocol import Source, SourceKind
from imgpipeline.sources.publish import publish
from imgpipeline.sources.rtsp import RtspSource
from imgpipeline.sources.rtsp_address import read_credentials
from imgpipeline.sources.sequence import SequenceSource
from imgpipeline.sources.supervisor import Build, Run
from imgpipeline.sources.video import VideoSource
from imgpipeline.sources.video_choice import FrameChoice
from imgpipeline.sources.watched_folder import After, WatchedFolder, WatchOptions

ServeHttp = Callable[[Settings, HttpConfig, PublishOptions, Event, Board], None]
"""Serves an HTTP source until the event is set."""


def builder(settings: Settings, serve_http: ServeHttp) -> Build:
    """Returns the function that prepares sources to run.

    Args:
        settings: Defaults of all sources.
        serve_http: Runs HTTP sources; passed in because `sources` does not import `web`.
    """

    def build(config: AnyConfig, board: Board) -> Run:
        def run(stop: Event) -> None:
            if isinstance(config, MqttConfig):
                _run_mqtt(settings, config, stop, board)
            elif isinstance(config, HttpConfig):
                serve_http(settings, config, _options(settings, config, SourceKind.FINITE), stop, board)
            else:
                _run_source(settings, config, open_source(config, settings), stop, board)

        return run

    return build


@singledispatch
def open_source(config: object, settings: Settings) -> Source:
    """Opens the source that a configuration describes.

    Raises:
        ConfigurationError: It cannot be opened as it is configured.
    """
    raise TypeError(f"{type(config).__name__} of {settings.kafka_topic} is not a source")


@open_source.register
def _(config: RtspConfig, _settings: Settings) -> Source:
    login = read_credentials(config.credentials_env, config.credentials_file)
    return RtspSource(config.name, config.url, credentials=login, fps=config.fps, stall_s=config.stall_s)


@open_source.register
def _(config: FolderConfig, settings: Settings) -> Source:
    options = WatchOptions(After(config.after), config.move_to, config.rescan_s)
    return WatchedFolder(settings, config.path, config.name, options)


@open_source.register
def _(config: VideoConfig, _settings: Settings) -> Source:
    choice = FrameChoice(every=config.every or 1, rate=config.fps)
    return VideoSource(config.path, config.name, choice=choice, realtime=config.realtime)


@open_source.register
def _(config: SequenceConfig, settings: Settings) -> Source:
    return SequenceSource(settings, config.path, config.name, rate=config.fps)


@open_source.register
def _(config: S3Config, settings: Settings) -> Source:
    return BucketSource(settings, config.url, config.name, suffixes=config.suffixes)


def _run_source(settings: Settings, config: AnyConfig, source: Source, stop: Event, board: Board) -> None:
    options = _options(settings, config, source.kind)
    publish(settings, source, stop=stop, options=options, watch=board.watch(source.name, source.kind))


def _run_mqtt(settings: Settings, config: MqttConfig, stop: Event, board: Board) -> None:
    own: dict[str, object] = {"mqtt_client_id": f"{settings.mqtt_client_id}-{config.name}"}
    own |= {
        f"mqtt_{name}": value
        for name in ("host", "port", "username", "password_file", "tls", "ca_file")
        if (value := getattr(config, name)) is not None
    }
    subscription = Subscription((config.topic,), None if "+" in config.topic else config.name, Payload(config.payload))
    options = _options(settings, config, SourceKind.FINITE)
    ingest_mqtt(settings.model_copy(update=own), subscription, stop=stop, options=options, board=board)


def _options(settings: Settings, config: AnyConfig, kind: SourceKind) -> PublishOptions:
    preparation = config.preparation(settings)
    return replace(default_options(kind), preparation=preparation, queue_frames=config.queue_frames)
