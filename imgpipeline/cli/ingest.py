"""`imgpipeline ingest`: pictures into the store and announcements into Kafka."""

from dataclasses import asdict
from datetime import timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.announcing import KeyTemplateOption, MessageFormatOption, TopicOption, announcing_settings
from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json
from imgpipeline.cli.timezones import TimezoneOption, timezone_settings
from imgpipeline.contracts.counts import counted
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.times import parse_time
from imgpipeline.contracts.timezones import find_timezone
from imgpipeline.errors import UsageError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.sources.folder import FolderIngest, Pace

app = typer.Typer(help="Store images and announce them as frames.")
_MOST_NAMED = 5


@app.callback()
def _group() -> None:
    """Store images and announce them as frames."""


@app.command("folder")
def folder(  # noqa: PLR0913, PLR0917 - one parameter for each option
    path: Annotated[Path, typer.Argument(help="A folder including its subfolders, or one image.")],
    source: Annotated[str, typer.Option("--source", help="Name of the camera or the folder.")],
    start: Annotated[
        str | None,
        typer.Option(help="Time of the first image, such as 2026-01-09T12:00:00Z, instead of the images' own times."),
    ] = None,
    interval_s: Annotated[float, typer.Option(help="Seconds from one image to the next, with --start.")] = 1.0,
    topic: TopicOption = None,
    key_template: KeyTemplateOption = None,
    message_format: MessageFormatOption = MessageFormat.NATIVE,
    timezone: TimezoneOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store the images of a folder below images/ and announce each as a frame.

    The time of an image is its EXIF time, otherwise the file's modification time. An EXIF time or --start without an
    offset from UTC is local time of --timezone. Hidden files and files that are not images are skipped. It is safe to
    repeat an ingest, for example after a failure: the same frames count once.
    """
    from imgpipeline.sources.folder import IngestInterrupted, ingest_folder  # noqa: PLC0415 - loads kafka-python

    settings = load_settings(**timezone_settings(timezone), **announcing_settings(topic, key_template))
    pace = _pace(start, interval_s, find_timezone(settings.timezone))
    try:
        with progress_bar("Ingesting", unit="pictures") as progress:
            result = ingest_folder(settings, path, source, pace=pace, message_format=message_format, progress=progress)
    except KeyboardInterrupt as interrupt:
        done = "before any frame was announced"
        if isinstance(interrupt, IngestInterrupted):
            done = f"after {interrupt.announced:,} of {counted(interrupt.files, 'frame')}"
        note(f"Interrupted {done} (topic {settings.kafka_topic}).")
        note("It is safe to run the same command again: frames that are announced twice are counted once.")
        raise typer.Exit(130) from None
    if as_json:
        show_json({**asdict(result), "topic": settings.kafka_topic})
    else:
        _report(result, settings.kafka_topic)


def _pace(start: str | None, interval_s: float, zone: tzinfo) -> "Pace | None":
    from imgpipeline.sources.folder import Pace  # noqa: PLC0415 - loads kafka-python and obstore

    if start is None:
        return None
    try:
        first = parse_time(start, zone)
        interval = timedelta(seconds=interval_s)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--start {start!r} or --interval-s {interval_s}: {error}.",
            next_step="give an RFC 3339 time such as 2026-01-09T12:00:00Z, and seconds above 0",
        ) from None
    if interval <= timedelta():
        raise UsageError(f"--interval-s is {interval_s}, expected more than 0.", next_step="give seconds above 0")
    return Pace(first, interval)


def _report(result: "FolderIngest", topic: str) -> None:
    from imgpipeline.sources.walk import HIDDEN  # noqa: PLC0415 - `--help` does not wait for it

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
