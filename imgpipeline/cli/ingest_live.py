"""`imgpipeline ingest rtsp` and `mqtt`: store and announce live images until stopped."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.ingest_options import Preparing, TopicOption, topic_settings
from imgpipeline.cli.options import JsonOption, expand_options
from imgpipeline.cli.output import note, reasons, show_json, show_table, stderr_console
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.errors import UsageError
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.sources.accounts import Totals
    from imgpipeline.sources.ingest import EndedSource
    from imgpipeline.sources.mqtt.messages import Subscription
    from imgpipeline.sources.options import PublishOptions
    from imgpipeline.sources.rtsp import RtspSource

CredentialsEnvOption = Annotated[
    str | None,
    typer.Option("--credentials-env", metavar="NAME", help="Variable with user:password, in the environment or .env."),
]
CredentialsFileOption = Annotated[
    Path | None, typer.Option("--credentials-file", help="File whose first line is user:password.")
]
DurationOption = Annotated[float | None, typer.Option("--duration", min=0.1, help="Stop after this many seconds.")]
BrokerHostOption = Annotated[str | None, typer.Option("--host", help="Host of the MQTT broker. Default: MQTT_HOST.")]
BrokerPortOption = Annotated[int | None, typer.Option("--port", help="Port of the MQTT broker. Default: MQTT_PORT.")]
_COLUMNS = ("source", "received", "announced", "gated", "dropped", "failed", "observed s", "error")


@expand_options
def rtsp(  # noqa: PLR0913, PLR0917 - one parameter for each option
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="Cameras, such as rtsp://192.168.1.20/stream1.")],
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
    as_json: JsonOption = False,
    *,
    preparing: Preparing,
) -> None:
    """Read cameras by RTSP, store their frames and announce them, until Ctrl-C.

    Each camera has its own process, which reconnects automatically. Frames have the camera's own time if it sends RTCP
    sender reports, otherwise the time at which they were received. Give user and password by --credentials-env or
    --credentials-file: other users can see the arguments of a command. Exits with status 1 if a camera failed
    permanently.
    """
    from imgpipeline.sources.options import default_options  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.sources.protocol import SourceKind  # noqa: PLC0415 - as above
    from imgpipeline.sources.rtsp import RtspSource, read_credentials  # noqa: PLC0415 - as above

    settings = load_settings()
    preparation = preparing.preparation(settings)
    login = read_credentials(credentials_env, credentials_file)
    cameras = [
        RtspSource(name, url, credentials=login, fps=fps, stall_s=stall_s)
        for name, url in zip(_camera_names(urls, source), urls, strict=True)
    ]
    options = replace(default_options(SourceKind.LIVE), preparation=preparation, stall_s=stall_s)
    ended, status = _run_cameras(cameras, settings, options, duration_s, metrics_port)
    _report_cameras(ended, as_json=as_json)
    raise typer.Exit(1 if any(one.error for one in ended) else status)


def _camera_names(urls: Sequence[str], named: list[str] | None) -> list[str]:
    from imgpipeline.sources.rtsp import read_address  # noqa: PLC0415 - `--help` does not wait for it

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
    from imgpipeline.cli.live_table import live_table  # noqa: PLC0415 - loads rich
    from imgpipeline.sources.board import Board  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.sources.ingest import ingest_all  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.metrics import serve_metrics  # noqa: PLC0415 - loads the Prometheus client

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


def _report_cameras(ended: "Sequence[EndedSource]", *, as_json: bool) -> None:
    if as_json:
        counts = [asdict(one.totals) if one.totals else {} for one in ended]
        errors = [str(one.error) if one.error else None for one in ended]
        show_json([
            {"source": one.source, **of, "error": error} for one, of, error in zip(ended, counts, errors, strict=True)
        ])  # fmt: skip
        return
    show_table(_COLUMNS, [_camera_cells(one) for one in ended])
    for one in ended:
        if one.error:
            note(f"{one.source}: {one.error}")


def _camera_cells(one: "EndedSource") -> list[Any]:
    error = one.error.message if one.error else None
    if one.totals is None:
        return [one.source, *[None] * 6, error]
    of = one.totals
    dropped = reasons(of.dropped) or 0
    return [one.source, of.received, of.announced, of.gated, dropped, of.failed, of.observed_s, error]


@expand_options
def mqtt(  # noqa: PLR0913 - one parameter for each option
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
    payload: Annotated[
        str,
        typer.Option(
            "--payload",
            metavar="[image|json]",
            help="image: the message is an encoded image. json: a document with the image in base64 as `image`, and "
            "optionally timestamp, number and attributes.",
        ),
    ] = "image",
    host: BrokerHostOption = None,
    port: BrokerPortOption = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many announced frames.")] = None,
    topic: TopicOption = None,
    as_json: JsonOption = False,
    *,
    preparing: Preparing,
) -> None:
    """Store the images of MQTT messages and announce each as a frame, until stopped.

    A message is acknowledged when its image is stored and announced. Until then the broker keeps it, even if this
    command or the broker restarts. A redelivered message is the same frame. User, password, TLS and the session name
    are settings (IMGPIPELINE_MQTT_…).
    """
    from imgpipeline.sources.mqtt.messages import DEFAULT_TOPIC, Subscription, parse_payload  # noqa: PLC0415 - slow

    settings = load_settings(**broker_settings(host, port), **topic_settings(topic))
    subscription = Subscription(tuple(mqtt_topics or [DEFAULT_TOPIC]), source, parse_payload(payload))
    status, found = _run_subscription(settings, subscription, preparing, limit)
    _report_messages(found, settings.kafka_topic, as_json=as_json)
    raise typer.Exit(status)


def broker_settings(host: str | None, port: int | None) -> dict[str, object]:
    """Returns the settings that `--host` and `--port` of an MQTT broker override."""
    given = {"mqtt_host": host, "mqtt_port": port}
    return {name: value for name, value in given.items() if value is not None}


def _run_subscription(
    settings: Settings, subscription: "Subscription", preparing: Preparing, limit: int | None
) -> "tuple[int, list[tuple[str, Totals]]]":
    from imgpipeline.sources.mqtt.ingest import ingest_mqtt  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.options import PublishOptions  # noqa: PLC0415 - as above

    options = PublishOptions(preparation=preparing.preparation(settings))
    with stopped_by_signals() as stopping:

        def stop_at_limit(totals: "list[tuple[str, Totals]]") -> None:
            if limit is not None and sum(of.announced for _, of in totals) >= limit:
                stopping.event.set()

        where = f"{settings.mqtt_host}:{settings.mqtt_port}"
        note(f"Subscribed to {', '.join(subscription.topics)} at {where}. Ctrl-C stops.")
        found = ingest_mqtt(settings, subscription, stop=stopping.event, options=options, progress=stop_at_limit)
    return stopping.exit_status, found


def _report_messages(found: "list[tuple[str, Totals]]", topic: str, *, as_json: bool) -> None:
    if as_json:
        names = ("received", "announced", "failed", "gated", "dropped")
        show_json([{"source": name, **{each: getattr(of, each) for each in names}} for name, of in found])
        return
    for name, of in found:
        others = {"gated": of.gated, "dropped": sum(of.dropped.values()), "failed": of.failed}
        more = "".join(f", {count:,} {what}" for what, count in others.items() if count)
        note(f"{name}: {counted(of.announced, 'frame')} announced on the topic {topic}{more}.")
    if not found:
        note("No message arrived.")
