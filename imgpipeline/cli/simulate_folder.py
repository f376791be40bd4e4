"""`imgpipeline simulate folder`: cameras that drop images into folders."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.output import note
from imgpipeline.cli.simulated_cameras import CamerasOption, FirstSeedOption
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError, UsageError

_PATTERNS = ("scene", "rotate")


def folder(
    cameras: CamerasOption = 1,
    fps: Annotated[float, typer.Option(min=0, max=60, help="Images a second of each; 0: as fast as possible.")] = 5.0,
    count: Annotated[int, typer.Option(min=1, help="Images of each camera.")] = 10,
    pattern: Annotated[
        str, typer.Option(help="scene: a street. rotate: copies of --image, of which every fourth is turned.")
    ] = "scene",
    image: Annotated[Path | None, typer.Option(help="The picture of --pattern rotate.")] = None,
    name: Annotated[str, typer.Option(help="Names of the images; {n} is the running number from 1.")] = "{n:05d}.jpg",
    out: Annotated[Path, typer.Option(help="Where the cameras' folders are made.")] = Path("simulated"),
    first_seed: FirstSeedOption = 1,
) -> None:
    """Drop images of simulated cameras into folders, for `imgpipeline ingest folder --watch`.

    The folders are OUT/cam1, cam2 and so on; each image appears whole. OUT/cam1.truth.jsonl says what is in them.
    """
    from imgpipeline.sources.simulator import folder_camera  # noqa: PLC0415 - loads OpenCV

    if pattern not in _PATTERNS or (pattern == "rotate") != (image is not None):
        raise UsageError(f"--pattern is {pattern}.", next_step="give scene, or rotate with --image FILE")
    try:
        original = image.read_bytes() if image else b""
    except OSError as error:
        raise ConfigurationError(f"{image} cannot be read: {error.strerror}.", next_step="name a picture") from None

    with stopped_by_signals() as stopping, ThreadPoolExecutor(cameras) as pool:

        def run(number: int) -> int:
            at = out / f"cam{number}"
            pictures = (
                folder_camera.rotated_pictures(original, count)
                if image
                else folder_camera.scene_pictures(first_seed + number - 1, count)
            )
            truth = folder_camera.truth_of(at)
            return folder_camera.write_pictures(at, pictures, name=name, fps=fps, stop=stopping.event, truth_file=truth)

        written = sum(pool.map(run, range(1, cameras + 1)))
    note(f"{counted(written, 'image')} of {counted(cameras, 'camera')} written to {out}.")
