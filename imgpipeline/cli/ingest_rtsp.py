"""`imgpipeline ingest rtsp`: reads cameras until it is stopped."""

import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.output import JsonOption, note, show_json, show_table, stderr_console
from imgpipeline.cli.source_options import (
    HoursOption,
    MaskOption,
    MinBrightnessOption,
    MinChangeOption,
    MinSharpnessOption,
    ResizeOption,
    StoreGatedOption,
    preparation_of,
)
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.errors import UsageError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.sources.publish import EndedSource
    from imgpipeline.sources.rtsp import RtspSource

CredentialsEnvOption = Annotated[
    str | None,
    typer.Option("--credentials-env", metavar="NAME", help="Environment variable that holds user:password."),
]
CredentialsFileOption = Annotated[
    Path | None, typer.Option("--credentials-file", help="File whose first line is user:password.")
]
DurationOption = Annotated[float | None, typer.Option("--duration", min=0.1, help="Stop after this many seconds.")]
SourceNamesOption = Annotated[
    list[str] | None,
    typer.Option("--source", help="Name of the camera; one for each URL, in their order. Default: its path."),
]
MetricsPortOption = Annotated[
    int | None, typer.Option("--metrics-port", help="Serve Prometheus metrics and /health on this loopback port.")
]
_COLUMNS = ("source", "received", "announced", "gated", "dropped", "failed", "observed s", "error")


def rtsp(  # noqa: PLR0913, PLR0917 - one parameter for each option
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="Cameras, such as rtsp://192.168.1.20/stream1.")],
    source: SourceNamesOption = None,
    fps: Annotated[float | None, typer.Option(min=0.001, help="Frames a second to keep at most.")] = None,
    duration_s: DurationOption = None,
    stall_s: Annotated[float, typer.Option(min=1, help="Reconnect after this many seconds without a frame.")] = 10.0,
    credentials_env: CredentialsEnvOption = None,
    credentials_file: CredentialsFileOption = None,
    min_brightness: MinBrightnessOption = None,
    min_sharpness: MinSharpnessOption = None,
    min_change: MinChangeOption = None,
    hours: HoursOption = None,
    store_gated: StoreGatedOption = True,
    mask: MaskOption = None,
    resize: ResizeOption = None,
    metrics_port: MetricsPortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read cameras by RTSP, store their frames and announce them, until Ctrl-C.

    Each camera has its own process, which reconnects automatically. Frames have the camera's own time if it sends RTCP
    sender reports, otherwise the time at which they were received. Give user and password by --credentials-env or
    --credentials-file: others can see the arguments of a command. Exits with status 1 if a camera had to be given up.
    """
    from imgpipeline.sources.options import default_options  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.sources.protocol import SourceKind  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.sources.rtsp import RtspSource, read_credentials  # noqa: PLC0415 - as above

    settings = load_settings()
    preparation = preparation_of(
        settings, min_brightness=min_brightness, min_sharpness=min_sharpness, min_change=min_change, hours=hours,
        store_gated=store_gated, masks=mask, resize=resize,
    )  # fmt: skip
    login = read_credentials(credentials_env, credentials_file)
    cameras = [
        RtspSource(name, url, credentials=login, fps=fps, stall_s=stall_s)
        for name, url in zip(_names(urls, source), urls, strict=True)
    ]
    options = replace(default_options(SourceKind.LIVE), preparation=preparation, stall_s=stall_s)
    ended, status = _run(cameras, settings, options, duration_s, metrics_port)
    _report(ended, as_json=as_json)
    raise typer.Exit(1 if any(one.error for one in ended) else status)


def _names(urls: Sequence[str], named: list[str] | None) -> list[str]:
    from imgpipeline.sources.rtsp import read_address  # noqa: PLC0415 - `--help` does not wait for it

    if named is not None and len(named) != len(urls):
        raise UsageError(
            f"{len(urls)} URLs, but {len(named)} names.", next_step="give --source once for each URL, in their order"
        )
    names = named or [read_address(url).path.replace("/", "-") or "camera" for url in urls]
    if len(set(names)) < len(names):
        raise UsageError("Two cameras have the same name.", next_step="give --source once for each URL")
    return names


def _run(
    cameras: "Sequence[RtspSource]", settings: Any, options: Any, duration_s: float | None, metrics_port: int | None
) -> "tuple[list[EndedSource], int]":
    from contextlib import ExitStack  # noqa: PLC0415 - with the others

    from imgpipeline.cli.live_table import live_table  # noqa: PLC0415 - loads rich
    from imgpipeline.sources.board import Board  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.sources.metrics import serve_metrics  # noqa: PLC0415 - loads the Prometheus client
    from imgpipeline.sources.publish import publish_all  # noqa: PLC0415 - loads kafka-python

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
        ended = publish_all(settings, [(camera, options) for camera in cameras], stopping.event, board)
    return ended, stopping.exit_status


def _report(ended: "Sequence[EndedSource]", *, as_json: bool) -> None:
    if as_json:
        show_json([_document(one) for one in ended])
        return
    show_table(_COLUMNS, [_cells(one) for one in ended])
    for one in ended:
        if one.error:
            note(f"{one.source}: {one.error}")


def _document(one: "EndedSource") -> dict[str, Any]:
    counts = asdict(one.totals) if one.totals else {}
    return {"source": one.source, **counts, "error": str(one.error) if one.error else None}


def _cells(one: "EndedSource") -> list[Any]:
    error = one.error.message if one.error else None
    if one.totals is None:
        return [one.source, *[None] * 6, error]
    totals = one.totals
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in totals.dropped.items()) or 0
    counts = (totals.received, totals.announced, totals.gated, dropped, totals.failed, totals.observed_s)
    return [one.source, *counts, error]
