"""`imgpipeline prepare`: write resized and renamed copies of images."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.ingest_files import CountOption, EveryOption, FpsOption, frame_choice
from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import note, progress_bar, show_json
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.errors import UsageError
from imgpipeline.settings import load_settings

_MOST_NAMED = 5


def prepare(  # noqa: PLR0913, PLR0917 - one parameter for each option
    path: Annotated[Path, typer.Argument(help="A folder (with its subfolders), an image or a video.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the copies; created if missing.")],
    size: Annotated[str | None, typer.Option("--size", help="Stretch the images to this size: 640x360.")] = None,
    every: EveryOption = 1,
    fps: FpsOption = None,
    count: CountOption = None,
    delete_originals: Annotated[
        bool, typer.Option("--delete-originals", help="Delete each original image after its copy is written.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be written.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write copies of images as frame_000000.jpg and so on, continuing after the highest number in the folder.

    Nothing is overwritten. The modification time of a copy is the time of its image. --every, --fps and --count select
    the frames of a video.
    """
    from imgpipeline.sources import prepare as preparing  # noqa: PLC0415 - loads OpenCV and FFmpeg
    from imgpipeline.sources.options import parse_size  # noqa: PLC0415 - loads OpenCV

    try:
        wanted = parse_size(size) if size else None
    except ValueError as error:
        raise UsageError(f"--size: {error}.", next_step="give a size such as 640x360") from None
    options = preparing.PrepareOptions(wanted, delete_originals, dry_run, frame_choice(every, fps, count))
    with stopped_by_signals() as stopping, progress_bar("Preparing", unit="images") as show:
        result = preparing.prepare(
            load_settings(), path, out, options, stop=stopping.event, progress=lambda n: show(n, 0)
        )
    if as_json:
        show_json({**asdict(result), "dry_run": dry_run})
        return
    for prepared in result.prepared[: _MOST_NAMED if dry_run else 0]:
        note(f"  {prepared.original} -> {prepared.target}")
    done = "would be written" if dry_run else "written"
    note(f"{counted(len(result.prepared), 'image')} {done} to {out}; the next number is {result.next_number}.")
    if result.skipped:
        note(f"Skipped: {counted(len(result.skipped), 'file')}, such as {result.skipped[0].path}: "
             f"{result.skipped[0].reason}.")  # fmt: skip
