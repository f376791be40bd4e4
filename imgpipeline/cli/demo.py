"""`imgpipeline demo`: run the whole pipeline with built-in defaults, and compare its counts with the truth."""

from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.models import refuse_unknown_model
from imgpipeline.cli.output import stdout_console
from imgpipeline.errors import UsageError


def demo(
    images: Annotated[Path | None, typer.Option(help="Use your own images instead of simulated ones.")] = None,
    video: Annotated[Path | None, typer.Option(help="Use your own video instead of simulated frames.")] = None,
    cameras: Annotated[
        int, typer.Option(min=0, max=16, help="Stream this many simulated cameras over RTSP for a minute instead.")
    ] = 0,
    model: Annotated[str, typer.Option(help="Registered model, or path of an ONNX file.")] = "demo",
    folder: Annotated[
        Path | None, typer.Option(help="Working folder, re-created at each start. Default: .imgpipeline/demo")
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--no-keep", help="Keep viewer and UI running until Ctrl-C. Default: only in a terminal."),
    ] = None,
    viewer_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port of the viewer. Default: a free one.")
    ] = None,
) -> None:
    """Run the whole pipeline with an in-memory broker, a folder as store, Dagster and the viewer; then check counts.

    Simulated cameras announce frames whose exact content is known. The table at the end compares the counts with this
    ground truth. With --cameras, live cameras drop frames and have an outage on purpose; their accounts must close.
    The exit status is 0 only if all counts are correct and the audit passes.
    """
    from imgpipeline.demo.run import DemoOptions, default_folder, is_watched, run_demo  # noqa: PLC0415 - loads it all

    if sum(map(bool, (images, video, cameras))) > 1:
        raise UsageError("Two of --images, --video and --cameras are given.", next_step="give one of them")
    refuse_unknown_model(model, None, or_file=True)
    keep = is_watched() if keep is None else keep
    options = DemoOptions(folder or default_folder(), model, images, video, cameras, keep, viewer_port)
    if not run_demo(options, stdout_console()):
        raise typer.Exit(1)
