"""`imgpipeline demo`: the main job on embedded defaults, and its proof."""

from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.models import refuse_unknown_model
from imgpipeline.cli.output import stdout_console
from imgpipeline.errors import UsageError


def demo(
    images: Annotated[Path | None, typer.Option(help="Your own pictures instead of simulated ones.")] = None,
    video: Annotated[Path | None, typer.Option(help="Your own video instead of simulated frames.")] = None,
    model: Annotated[str, typer.Option(help="Registered model, or path of an ONNX file.")] = "demo",
    folder: Annotated[
        Path | None, typer.Option(help="Where it works; made anew at each start. Default: .imgpipeline/demo")
    ] = None,
    keep: Annotated[
        bool | None, typer.Option("--keep/--no-keep", help="Keep the UI up until Ctrl-C. Default: at a terminal.")
    ] = None,
) -> None:
    """Run the main job on a broker in memory, a folder as store, and Dagster; then prove what was counted.

    Simulated cameras announce frames whose exact content is known. The table at the end has the counted numbers beside
    the truth. The exit status is 0 only where they meet and the audit is ok.
    """
    from imgpipeline.demo.run import DemoOptions, default_folder, is_watched, run_demo  # noqa: PLC0415 - loads it all

    if images and video:
        raise UsageError("--images and --video are both given.", next_step="give one of them")
    refuse_unknown_model(model, None, or_file=True)
    keep = is_watched() if keep is None else keep
    options = DemoOptions(folder or default_folder(), model, images, video, keep)
    if not run_demo(options, stdout_console()):
        raise typer.Exit(1)
