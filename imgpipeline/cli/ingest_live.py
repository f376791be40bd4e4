"""`imgpipeline ingest rtsp` and `mqtt`: store and announce live images until stopped."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

import typer

from imgpipeline.cli.ingest import Preparing, TopicOption, app, topic_settings
from imgpipeline.cli.options import CredentialsEnvOption, CredentialsFileOption, DurationOption, RowFormat, command
from imgpipeline.cli.output import note, stderr_console
from imgpipeline.cli.running import live_table, stopped_by_signals
from imgpipeline.errors import ImgpipelineError, UsageError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import Board
from imgpipeline.sources.ingest import EndedSource, ingest_all
from imgpipeline.sources.metrics import serve_metrics
from imgpipeline.sources.mqtt.ingest import ingest_mqtt
from imgpipeline.sources.mqtt.messages import DEFAULT_TOPIC, Subscription, parse_payload
from imgpipeline.sources.options import PublishOptions, default_options
from imgpipeline.sources.protocol import SourceKind
from imgpipeline.sources.rtsp import RtspSource, camera_url, read_address, read_credentials

PayloadOption = Annotated[
    Literal["image", "json"],
    typer.Option(
        "--payload",
        help="image: the message is an encoded image. json: a document with the image in base64 as `image`, and "
        "optionally timestamp, number and attributes.",
    ),
]
BrokerHostOption = Annotated[str | None, typer.Option("--host", help="Host of the MQTT broker. Default: MQTT_HOST.")]
BrokerPortOption = Annotated[int | None, typer.Option("--port", help="Port of the MQTT broker. Default: MQTT_PORT.")]
_ACCOUNTS = ("source", "received", "announced", "gated", "dropped", "failed", "observed_s", "error")


@command(app, "rtsp")
def rtsp(
    urls: Annotated[
        list[str] | None,
        typer.Argument(metavar="[URL...]", help="Cameras, such as rtsp://192.168.1.20/stream1. Default: RTSP_URL."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source", help="Name of a camera; one for each URL, in the same order. Default: the URL's path."
        ),
    ] = None,
    fps: Annotated[float | None, typer.Option(min=0.001, help="Keep at most this many frames per second.")] = None,
    duration_s: DurationOption = None,
    stall_s: Annotated[float, typer.Option(min=1, help="Reconnect after this many seconds without a frame.")] = 10.0,
    credentials_env: CredentialsEnvOption = None,
    credentials_file: CredentialsFileOption = None,
    metrics_port: Annotated[
        int | None, typer.Option("--metrics-port", help="Serve Prometheus metrics and /health on this loopback port.")
    ] = None,
    *,
    preparing: Preparing,
    rows: RowFormat,
) -> None:
    """Read cameras by RTSP, store their frames and announce them, until Ctrl-C.

    Each camera has its own process, which reconnects automatically. Frames have the camera's own time if it sends RTCP
    sender reports, otherwise the time at which they were received. Give user and password by --credentials-env or
    --credentials-file: other users can see the arguments of a command. Exits with status 1 if a camera failed
    permanently.
    """
    settings = load_settings()
    urls = urls or [camera_url(settings)]
    preparation = preparing.preparation(settings)
    login = read_credentials(credentials_env, credentials_file)
    cameras = [
        RtspSource(name, url, credentials=login, fps=fps, stall_s=stall_s)
        for name, url in zip(_camera_names(urls, source), urls, strict=True)
    ]
    options = replace(default_options(SourceKind.LIVE), preparation=preparation, stall_s=stall_s)
    ended, status = _run_cameras(cameras, settings, options, duration_s, metrics_port)
    rows.show([_account(one.source, one.totals, one.error) for one in ended], _ACCOUNTS)
    raise typer.Exit(1 if any(one.error for one in ended) else status)


def _camera_names(urls: Sequence[str], named: list[str] | None) -> list[str]:
    if named is not None and len(named) != len(urls):
        raise UsageError(
            f"{len(urls)} URLs, but {len(named)} names.", next_step="give --source once for each URL, in the same order"
        )
    names = named or [read_address(url).path.replace("/", "-") or "camera" for url in urls]
    if len(set(names)) < len(names):
        raise UsageError("Two cameras have the same name.", next_step="give --source once for each URL")
    return names


def _run_cameras(
    cameras: "Sequence[RtspSource]",
    settings: Settings,
    options: "PublishOptions",
    duration_s: float | None,
    metrics_port: int | None,
) -> "tuple[list[EndedSource], int]":
    board = Board()
    with ExitStack() as stack:
        stopping = stack.enter_context(stopped_by_signals())
        if metrics_port is not None:
            stack.enter_context(serve_metrics(board, metrics_port))
        if duration_s is not None:
            timer = threading.Timer(duration_s, stopping.event.set)
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        stack.enter_context(live_table(board, stderr_console()))
        ended = ingest_all(settings, [(camera, options) for camera in cameras], stopping.event, board)
    return ended, stopping.exit_status


def _account(source: str, totals: "Totals | None", error: ImgpipelineError | None = None) -> dict[str, Any]:
    counts = {field.name: getattr(totals, field.name, None) for field in fields(Totals)}
    return {"source": source, **counts, "error": str(error) if error else None}


@command(app, "mqtt")
def mqtt(
    mqtt_topics: Annotated[
        list[str] | None,
        typer.Option(
            "--mqtt-topic",
            metavar="FILTER",
            help="MQTT topic filter, such as images/+/raw; the text matched by + or # names the source. Repeatable. "
            "Default: images/raw.",
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the source, for filters without a wildcard.")
    ] = None,
    payload: PayloadOption = "image",
    host: BrokerHostOption = None,
    port: BrokerPortOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many announced frames.")] = None,
    topic: TopicOption = None,
    *,
    preparing: Preparing,
    rows: RowFormat,
) -> None:
    """Store the images of MQTT messages and announce each as a frame, until stopped.

    A message is acknowledged when its image is stored and announced. Until then the broker keeps it, even if this
    command or the broker restarts. A redelivered message is the same frame. User, password, TLS and the session name
    are settings (IMGPIPELINE_MQTT_…).
    """
    settings = load_settings(**broker_settings(host, port), **topic_settings(topic))
    subscription = Subscription(tuple(mqtt_topics or [DEFAULT_TOPIC]), source, parse_payload(payload))
    status, found = _run_subscription(settings, subscription, preparing, limit)
    rows.show([_account(*one) for one in found], _ACCOUNTS, empty="No message arrived.")
    raise typer.Exit(status)


def broker_settings(host: str | None, port: int | None) -> dict[str, object]:
    """Returns the settings that `--host` and `--port` of an MQTT broker override."""
    given = {"mqtt_host": host, "mqtt_port": port}
    return {name: value for name, value in given.items() if value is not None}


def _run_subscription(
    settings: Settings, subscription: "Subscription", preparing: Preparing, limit: int | None
) -> "tuple[int, list[tuple[str, Totals]]]":
    options = PublishOptions(preparation=preparing.preparation(settings))
    with stopped_by_signals() as stopping:

        def stop_at_limit(totals: "list[tuple[str, Totals]]") -> None:
            if limit is not None and sum(of.announced for _, of in totals) >= limit:
                stopping.event.set()

        where = f"{settings.mqtt_host}:{settings.mqtt_port}"
        note(f"Subscribed to {', '.join(subscription.topics)} at {where}. Ctrl-C stops.")
        found = ingest_mqtt(settings, subscription, stop=stopping.event, options=options, progress=stop_at_limit)
    return stopping.exit_status, found
