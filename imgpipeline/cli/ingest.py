"""`imgpipeline ingest`: stores images and announces them in Kafka."""

from dataclasses import asdict
from datetime import timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.finite import StartOption, finite_progress, read_start
from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.cli.publish_options import Publishing, publishes
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import UsageError

if TYPE_CHECKING:
    from imgpipeline.settings import Settings
    from imgpipeline.sources.folder import FolderIngest, Pace
    from imgpipeline.sources.options import PublishOptions
    from imgpipeline.sources.watched_folder import WatchOptions

app = typer.Typer(help="Store images and announce them as frames.")
_MOST_NAMED = 5


@app.callback()
def _group() -> None:
    """Store images and announce them as frames."""


@app.command("folder")
@publishes
def folder(  # noqa: PLR0913, PLR0917 - one parameter for each option
    path: Annotated[Path, typer.Argument(help="A folder including its subfolders, or one image.")],
    source: Annotated[str, typer.Option("--source", help="Name of the camera or the folder.")],
    start: StartOption = None,
    interval_s: Annotated[float, typer.Option(help="Seconds from one image to the next, with --start.")] = 1.0,
    watch: Annotated[bool, typer.Option("--watch", help="Go on with every image that appears, until stopped.")] = False,
    after: Annotated[
        str, typer.Option(help="With --watch, what becomes of a file once it is announced: keep, move or delete.")
    ] = "keep",
    move_to: Annotated[
        Path | None, typer.Option(help="Where --after move puts files. Default: .ingested in the folder.")
    ] = None,
    rescan_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two scans, with --watch.")] = 2.0,
    state: Annotated[
        Path | None, typer.Option(help="File that keeps what was announced, with --watch. Default: in ~/.local/state.")
    ] = None,
    as_json: JsonOption = False,
    *,
    publishing: Publishing,
) -> None:
    """Store the images of a folder below images/ and announce each as a frame.

    The time of an image is its EXIF time, otherwise the file's modification time; with --start, images are numbered
    and have times by their order. An EXIF time or --start without an
    offset from UTC is local time of --timezone. Hidden files and files that are not images are skipped. It is safe to
    repeat an ingest, for example after a failure: the same frames count once.

    With --watch, a file is announced once its size and time did not change between two scans, or when it is moved in.
    SIGTERM and Ctrl-C end it after what was found is announced.
    """
    from imgpipeline.sources.folder import ingest_folder  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.protocol import SourceKind  # noqa: PLC0415 - loads NumPy

    settings = publishing.settings()
    options = publishing.options(settings, SourceKind.FINITE)
    pace = _pace(start, interval_s, find_timezone(settings.timezone))
    if watch:
        if pace:
            raise UsageError("--start does not go with --watch.", next_step="leave --start out: images have own times")
        _watch(settings, path, source, options, _watch_options(after, move_to, rescan_s, state), as_json=as_json)
        return
    with finite_progress("Ingesting", settings.kafka_topic, unit="images") as progress:
        result = ingest_folder(settings, path, source, pace=pace, options=options, progress=progress)
    if as_json:
        show_json({**asdict(result), "topic": settings.kafka_topic})
    else:
        _report(result, settings.kafka_topic)


def _watch_options(after: str, move_to: Path | None, rescan_s: float, state: Path | None) -> "WatchOptions":
    from imgpipeline.sources.watched_folder import After, WatchOptions  # noqa: PLC0415 - loads watchfiles

    if after not in list(After):
        raise UsageError(f"--after is {after}, expected keep, move or delete.", next_step="give one of them")
    return WatchOptions(After(after), move_to, rescan_s, state)


def _watch(
    settings: "Settings", path: Path, source: str, options: "PublishOptions", how: "WatchOptions", *, as_json: bool
) -> None:
    from imgpipeline.sources.publish import publish  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.watched_folder import WatchedFolder  # noqa: PLC0415 - loads watchfiles

    folder = WatchedFolder(settings, path, source, how)
    note(f"Watching {path}. Ctrl-C ends it.")
    with stopped_by_signals() as stopping:
        totals = publish(settings, folder, stop=stopping.event, options=options)
    if as_json:
        show_json({"source": source, "topic": settings.kafka_topic, "announced": totals.announced,
                   "failed": totals.failed, "skipped": folder.skipped})  # fmt: skip
    else:
        note(f"{counted(totals.announced, 'frame')} of {source} announced on the topic {settings.kafka_topic}.")
    raise typer.Exit(stopping.exit_status)


def _pace(start: str | None, interval_s: float, zone: tzinfo) -> "Pace | None":
    from imgpipeline.sources.folder import Pace  # noqa: PLC0415 - loads kafka-python and obstore

    first = read_start(start, zone)
    if first is None:
        return None
    try:
        interval = timedelta(seconds=interval_s)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--interval-s {interval_s}: {error}.", next_step="give seconds above 0") from None
    if interval <= timedelta():
        raise UsageError(f"--interval-s is {interval_s}, expected more than 0.", next_step="give seconds above 0")
    return Pace(first, interval)


def _report(result: "FolderIngest", topic: str) -> None:
    from imgpipeline.sources.walk import HIDDEN  # noqa: PLC0415 - `--help` does not wait for it

    if not result.announced and not result.skipped:
        note("There are no images in it: nothing to do.")
        return
    announced, size = counted(result.announced, "frame"), counted(result.size_bytes, "byte")
    note(f"{announced} of {result.source} announced on the topic {topic} ({size}).")
    note(f"Images: {result.stored:,} new, {result.already_there:,} already stored, {result.changed:,} changed.")
    if result.first_time and result.last_time:
        note(f"Their times: {result.first_time:%Y-%m-%d %H:%M:%S} to {result.last_time:%Y-%m-%d %H:%M:%S} UTC.")
    hidden = sum(skipped.reason == HIDDEN for skipped in result.skipped)
    others = [skipped for skipped in result.skipped if skipped.reason != HIDDEN]
    if others:
        note(f"Left out: {counted(len(others), 'other file')}.")
        for skipped in others[:_MOST_NAMED]:
            note(f"  {skipped.path}: {skipped.reason}")
        if len(others) > _MOST_NAMED:
            note(f"  and {len(others) - _MOST_NAMED:,} more; --json names all")
    if hidden:
        note(f"Left out as hidden: {counted(hidden, 'file or folder', 'files or folders')}.")
