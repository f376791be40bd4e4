"""`imgpipeline ingest folder`, `sequence` and `video`: store the images of files and announce them."""

from dataclasses import asdict
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.ingest_options import Announcing, StartOption, read_start
from imgpipeline.cli.options import JsonOption, expand_options
from imgpipeline.cli.output import note, note_some, show_json
from imgpipeline.cli.stopping import finite_progress, stopped_by_signals
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import UsageError

if TYPE_CHECKING:
    from imgpipeline.settings import Settings
    from imgpipeline.sources.folder import FolderIngest, Pace
    from imgpipeline.sources.options import PublishOptions
    from imgpipeline.sources.sequence import SequenceIngest
    from imgpipeline.sources.video import FrameChoice, VideoIngest
    from imgpipeline.sources.watched_folder import WatchOptions

EveryOption = Annotated[int, typer.Option("--every", min=1, help="Take every Nth frame.")]
FpsOption = Annotated[float | None, typer.Option("--fps", help="Take at most this many frames per second of video.")]
CountOption = Annotated[
    int | None, typer.Option("--count", min=1, help="Take at most this many frames, spread evenly over the video.")
]
_MOST_NAMED = 5


@expand_options
def folder(  # noqa: PLR0913, PLR0917 - one parameter for each option
    path: Annotated[Path, typer.Argument(help="A folder (with its subfolders), or one image.")],
    source: Annotated[str, typer.Option("--source", help="Name of the camera or the folder.")],
    start: StartOption = None,
    interval_s: Annotated[float, typer.Option(help="Seconds from one image to the next, with --start.")] = 1.0,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running and announce each new image.")] = False,
    after: Annotated[
        str, typer.Option(help="What to do with an announced file, with --watch: keep, move or delete.")
    ] = "keep",
    move_to: Annotated[
        Path | None, typer.Option(help="Where --after move puts files. Default: .ingested in the folder.")
    ] = None,
    rescan_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two scans, with --watch.")] = 2.0,
    state: Annotated[
        Path | None,
        typer.Option(help="File that records the announced files, with --watch. Default: in ~/.local/state."),
    ] = None,
    as_json: JsonOption = False,
    *,
    announcing: Announcing,
) -> None:
    """Store the images of a folder below images/ and announce each as a frame.

    The time of an image is its EXIF time, otherwise the file's modification time. With --start, images are numbered,
    and their order gives their times. An EXIF time or --start without an offset from UTC is local time of --timezone.
    Hidden files and files that are not images are skipped. It is safe to repeat an ingest, for example after a failure:
    the same frames count once.

    With --watch, a file is announced once its size and time stay the same between two scans, or when it is moved in.
    On Ctrl-C or SIGTERM, the command announces the files that it has found, then ends.
    """
    from imgpipeline.sources.folder import ingest_folder  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.protocol import SourceKind  # noqa: PLC0415 - loads NumPy

    settings = announcing.settings()
    options = announcing.options(settings, SourceKind.FINITE)
    pace = _pace(start, interval_s, find_timezone(settings.timezone))
    if watch:
        if pace:
            raise UsageError(
                "--start and --watch are both given.", next_step="omit --start: images have their own times"
            )
        _watch(settings, path, source, options, _watch_options(after, move_to, rescan_s, state), as_json=as_json)
        return
    with finite_progress("Ingesting", settings.kafka_topic, unit="images") as progress:
        result = ingest_folder(settings, path, source, pace=pace, options=options, progress=progress)
    if as_json:
        show_json({**asdict(result), "topic": settings.kafka_topic})
    else:
        _report_folder(result, settings.kafka_topic, options.message_format)


def _watch_options(after: str, move_to: Path | None, rescan_s: float, state: Path | None) -> "WatchOptions":
    from imgpipeline.sources.watched_folder import After, WatchOptions  # noqa: PLC0415 - loads watchfiles

    if after not in list(After):
        raise UsageError(f"--after is {after}, expected keep, move or delete.", next_step="give one of them")
    return WatchOptions(After(after), move_to, rescan_s, state)


def _watch(
    settings: "Settings", path: Path, source: str, options: "PublishOptions", how: "WatchOptions", *, as_json: bool
) -> None:
    from imgpipeline.sources.ingest import ingest_source  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.sources.watched_folder import WatchedFolder  # noqa: PLC0415 - loads watchfiles

    folder = WatchedFolder(settings, path, source, how)
    note(f"Watching {path}. Ctrl-C stops.")
    with stopped_by_signals() as stopping:
        totals = ingest_source(settings, folder, stop=stopping.event, options=options)
    if as_json:
        show_json({"source": source, "topic": settings.kafka_topic, "announced": totals.announced,
                   "failed": totals.failed, "skipped": folder.ignored | folder.skipped})  # fmt: skip
    else:
        _note_announced(totals.announced, source, settings.kafka_topic)
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


def _report_folder(result: "FolderIngest", topic: str, form: MessageFormat) -> None:
    from imgpipeline.sources.image_files import HIDDEN  # noqa: PLC0415 - `--help` does not wait for it

    if not result.announced and not result.skipped:
        note("No images found: nothing to do.")
        return
    _note_announced(result.announced, result.source, topic, f" ({counted(result.size_bytes, 'byte')})")
    note(f"Images: {result.stored:,} new, {result.already_there:,} already stored, {result.changed:,} changed.")
    if result.already_there and form is MessageFormat.CLASSIC:
        again = counted(result.already_there, "frame")
        note(f"The classic form has no frame id: consumers process {again} again. --watch sends only new files.")
    if result.first_time and result.last_time:
        _note_times(result.first_time, result.last_time)
    hidden = sum(skipped.reason == HIDDEN for skipped in result.skipped)
    others = [f"  {skipped.path}: {skipped.reason}" for skipped in result.skipped if skipped.reason != HIDDEN]
    if others:
        note(f"Skipped: {counted(len(others), 'other file')}.")
        note_some(others, _MOST_NAMED)
    if hidden:
        note(f"Skipped as hidden: {counted(hidden, 'file or folder', 'files or folders')}.")


@expand_options
def sequence(
    folders: Annotated[list[Path], typer.Argument(help="Folders of numbered images, or with seqinfo.ini and img1/.")],
    source: Annotated[str | None, typer.Option("--source", help="Name of the camera. Default: the sequence's.")] = None,
    start: StartOption = None,
    fps: Annotated[
        float | None, typer.Option("--fps", help="Frames per second. Default: frameRate in seqinfo.ini, otherwise 25.")
    ] = None,
    as_json: JsonOption = False,
    *,
    announcing: Announcing,
) -> None:
    """Store the numbered images of a folder unchanged and announce them as one source, in the order of their numbers.

    The last digits of a file's name are the number of its frame. Number and frame rate give its time. The time of the
    first image is --start, otherwise its EXIF time, otherwise its modification time.
    """
    from imgpipeline.sources.protocol import SourceKind  # noqa: PLC0415 - loads NumPy
    from imgpipeline.sources.sequence import SequenceSource, ingest_sequence  # noqa: PLC0415 - loads OpenCV

    settings = announcing.settings()
    options, at = announcing.options(settings, SourceKind.FINITE), read_start(start, find_timezone(settings.timezone))
    _check_fps(fps, example=25)
    if source and len(folders) > 1:
        raise UsageError("--source names one sequence, but several are given.", next_step="omit --source")
    done: list[SequenceIngest] = []
    for each in folders:
        chosen = SequenceSource(settings, each, source, rate=fps, start=at)
        with finite_progress(f"Ingesting {chosen.name}", settings.kafka_topic, unit="images") as progress:
            done.append(ingest_sequence(settings, chosen, options=options, progress=progress))
    if as_json:
        show_json({"topic": settings.kafka_topic, "sequences": [asdict(result) for result in done]})
        return
    for result in done:
        rate = f" ({result.fps:g} frames per second{'' if result.is_fps_known else ', assumed'})"
        _note_announced(result.announced, result.source, settings.kafka_topic, rate)
        _note_times(result.first_time, result.last_time)
        if result.skipped:
            note(f"Skipped: {counted(len(result.skipped), 'other file')}.")
            note_some([f"  {file.path}: {file.reason}" for file in result.skipped], _MOST_NAMED)


@expand_options
def video(  # noqa: PLR0913 - one parameter for each option
    files: Annotated[list[Path], typer.Argument(help="Video files, in any format that FFmpeg reads.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the camera. Default: each file's own name.")
    ] = None,
    start: StartOption = None,
    every: EveryOption = 1,
    fps: FpsOption = None,
    count: CountOption = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Announce frames at the pace of the video.")] = False,
    as_json: JsonOption = False,
    *,
    announcing: Announcing,
) -> None:
    """Store frames of videos as JPEG and announce them with the times of the container.

    The time of the first frame is --start, otherwise the creation time in the container, otherwise the file's
    modification time. With --source and --start, each file starts where the previous one ends. The readable part of a
    truncated file is announced, the rest is counted as failed, and the command exits with status 1. It is safe to
    repeat an ingest: the same frames count once.
    """
    from imgpipeline.sources.protocol import SourceKind  # noqa: PLC0415 - loads NumPy
    from imgpipeline.sources.video import VideoSource, ingest_video  # noqa: PLC0415 - loads FFmpeg

    settings = announcing.settings()
    options, choice = announcing.options(settings, SourceKind.FINITE), frame_choice(every, fps, count)
    at: datetime | None = read_start(start, find_timezone(settings.timezone))
    done: list[VideoIngest] = []
    for file in files:
        chosen = VideoSource(file, source or file.stem or "video", start=at, choice=choice, realtime=realtime)
        with finite_progress(f"Ingesting {file.name}", settings.kafka_topic) as progress:
            done.append(ingest_video(settings, chosen, options=options, progress=progress))
        at = chosen.following if at and source else at
    if as_json:
        show_json({"topic": settings.kafka_topic, "videos": [asdict(result) for result in done]})
    else:
        for result in done:
            _note_announced(result.announced, result.source, settings.kafka_topic, f" ({result.file})")
            _note_times(result.first_time, result.last_time)
            for text in result.notes:
                note(f"Not read: {text}.")
    if any(result.failed for result in done):
        raise typer.Exit(1)


def frame_choice(every: int, fps: float | None, count: int | None) -> "FrameChoice":
    """Returns which frames of a video the options select.

    Raises:
        UsageError: `fps` is out of range, or more than one option is given.
    """
    from imgpipeline.sources.video import FrameChoice  # noqa: PLC0415 - `--help` does not wait for it

    _check_fps(fps, example=2)
    if (every > 1) + (fps is not None) + (count is not None) > 1:
        raise UsageError("More than one of --every, --fps and --count is given.", next_step="give one of them")
    return FrameChoice(every, fps, count)


def _check_fps(fps: float | None, *, example: int) -> None:
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(
            f"--fps is {fps}, expected more than 0 and at most 1,000.",
            next_step=f"give frames per second, such as {example}",
        )


def _note_announced(frames: int, source: str, topic: str, more: str = "") -> None:
    note(f"{counted(frames, 'frame')} of {source} announced on the topic {topic}{more}.")


def _note_times(first: datetime, last: datetime) -> None:
    note(f"Times: {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC.")
