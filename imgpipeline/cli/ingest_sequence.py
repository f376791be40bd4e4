"""`imgpipeline ingest sequence`: folders of numbered images."""

from dataclasses import asdict
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
    from imgpipeline.sources.sequence import SequenceIngest

_MOST_NAMED = 5


@publishes
def sequence(
    folders: Annotated[list[Path], typer.Argument(help="Folders of numbered images, or with seqinfo.ini and img1/.")],
    source: Annotated[str | None, typer.Option("--source", help="Name of the camera. Default: the sequence's.")] = None,
    start: StartOption = None,
    fps: Annotated[
        float | None, typer.Option("--fps", help="Frames per second. Default: frameRate of seqinfo.ini, otherwise 25.")
    ] = None,
    as_json: JsonOption = False,
    *,
    publishing: Publishing,
) -> None:
    """Store the numbered images of a folder unchanged and announce them as one source, in the order of their numbers.

    The number in a file's name (its last digits) is the number of its frame and gives its time by the frame rate. The
    first image's time is --start, otherwise its EXIF time, otherwise its modification time.
    """
    from imgpipeline.sources.protocol import SourceKind  # noqa: PLC0415 - loads NumPy
    from imgpipeline.sources.sequence import SequenceSource, ingest_sequence  # noqa: PLC0415 - loads OpenCV

    settings = publishing.settings()
    options, at = publishing.options(settings, SourceKind.FINITE), read_start(start, find_timezone(settings.timezone))
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError(f"--fps is {fps}, expected more than 0.", next_step="give frames per second, such as 25")
    if source and len(folders) > 1:
        raise UsageError("--source names one sequence, but several are given.", next_step="leave --source out")
    done: list[SequenceIngest] = []
    for folder in folders:
        chosen = SequenceSource(settings, folder, source, rate=fps, start=at)
        with finite_progress(f"Ingesting {chosen.name}", settings.kafka_topic, unit="images") as progress:
            done.append(ingest_sequence(settings, chosen, options=options, progress=progress))
    if as_json:
        show_json({"topic": settings.kafka_topic, "sequences": [asdict(result) for result in done]})
    else:
        for result in done:
            _report(result, settings.kafka_topic)


def _report(result: "SequenceIngest", topic: str) -> None:
    rate = f"{result.fps:g} frames a second{'' if result.is_fps_known else ', assumed'}"
    note(f"{counted(result.announced, 'frame')} of {result.source} announced on the topic {topic} ({rate}).")
    note(f"Their times: {result.first_time:%Y-%m-%d %H:%M:%S} to {result.last_time:%Y-%m-%d %H:%M:%S} UTC.")
    if result.skipped:
        note(f"Left out: {counted(len(result.skipped), 'other file')}.")
        for file in result.skipped[:_MOST_NAMED]:
            note(f"  {file.path}: {file.reason}")
