"""`imgpipeline ingest video`: frames of video files."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.finite import StartOption, finite_progress, read_start
from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.cli.publish_options import Publishing, publishes
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import UsageError

if TYPE_CHECKING:
    from imgpipeline.sources.video import VideoIngest
    from imgpipeline.sources.video_frames import FrameChoice

EveryOption = Annotated[int, typer.Option("--every", min=1, help="Take every Nth frame.")]
FpsOption = Annotated[float | None, typer.Option("--fps", help="Take at most this many frames per second of video.")]
CountOption = Annotated[
    int | None, typer.Option("--count", min=1, help="Take at most this many frames, spread evenly over the video.")
]


@publishes
def video(  # noqa: PLR0913 - one parameter for each option
    files: Annotated[list[Path], typer.Argument(help="Video files, in any format that FFmpeg reads.")],
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the camera. Default: each file is a source of its own name.")
    ] = None,
    start: StartOption = None,
    every: EveryOption = 1,
    fps: FpsOption = None,
    count: CountOption = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Announce frames at the pace of the video.")] = False,
    as_json: JsonOption = False,
    *,
    publishing: Publishing,
) -> None:
    """Store frames of videos as JPEG and announce them with the times of the container.

    The first frame's time is --start, otherwise when the video was made by its own account, otherwise the file's
    modification time. With --source and --start, several files follow each other. Of a file that is cut off, what can
    be read is announced; the rest is counted as failed, and the command exits with status 1. It is safe to repeat an
    ingest: the same frames count once.
    """
    from imgpipeline.sources.protocol import SourceKind  # noqa: PLC0415 - loads NumPy
    from imgpipeline.sources.video import VideoSource, ingest_video  # noqa: PLC0415 - loads FFmpeg

    settings = publishing.settings()
    options, choice = publishing.options(settings, SourceKind.FINITE), frame_choice(every, fps, count)
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
            _report(result, settings.kafka_topic)
    if any(result.failed for result in done):
        raise typer.Exit(1)


def frame_choice(every: int, fps: float | None, count: int | None) -> "FrameChoice":
    """Returns which frames the options ask for.

    Raises:
        UsageError: `fps` is out of range, or more than one is given.
    """
    from imgpipeline.sources.video_frames import FrameChoice  # noqa: PLC0415 - `--help` does not wait for it

    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(f"--fps is {fps}, expected more than 0.", next_step="give frames per second, such as 2")
    if (every > 1) + (fps is not None) + (count is not None) > 1:
        raise UsageError("More than one of --every, --fps and --count is given.", next_step="give one of them")
    return FrameChoice(every, fps, count)


def _report(result: "VideoIngest", topic: str) -> None:
    note(f"{counted(result.announced, 'frame')} of {result.source} announced on the topic {topic} ({result.file}).")
    note(f"Their times: {result.first_time:%Y-%m-%d %H:%M:%S} to {result.last_time:%Y-%m-%d %H:%M:%S} UTC.")
    for text in result.notes:
        note(f"Not read: {text}.")
