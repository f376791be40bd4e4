"""The options of `imgpipeline simulate` that say which cameras there are."""

from typing import Annotated

import typer

CamerasOption = Annotated[int, typer.Option("--cameras", min=1, max=64, help="Number of cameras.")]
CameraFpsOption = Annotated[float, typer.Option("--fps", min=0.1, max=60, help="Frames a second of each camera.")]
FirstSeedOption = Annotated[int, typer.Option("--first-seed", min=0, help="Seed of the first camera's scene.")]
