"""`imgpipeline simulate`: cameras that do not exist, with known truth, over the real protocols."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.ingest_rtsp import DurationOption
from imgpipeline.cli.output import note
from imgpipeline.cli.simulated_cameras import CameraFpsOption, CamerasOption, FirstSeedOption
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.errors import UsageError

if TYPE_CHECKING:
    from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera

app = typer.Typer(help="Simulated cameras with known truth, over the real protocols.")
_CODECS = ("h264", "mjpeg")


@app.callback()
def _group() -> None:
    """Simulated cameras with known truth, over the real protocols."""


@app.command("rtsp")
def rtsp(  # noqa: PLR0913, PLR0917 - one parameter for each option
    cameras: CamerasOption = 1,
    fps: CameraFpsOption = 5.0,
    scene_s: Annotated[float, typer.Option(min=1, max=600, help="Seconds until a camera's scene repeats.")] = 20.0,
    codec: Annotated[str, typer.Option(help="h264 or mjpeg.")] = "h264",
    duration_s: DurationOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the clips and their truth.")] = Path("simulated"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the RTSP server.")] = 8554,
    api_port: Annotated[
        int | None, typer.Option(help="Also serve /v1/config, /v1/paths and /metrics on this port, such as 9997.")
    ] = None,
    first_seed: FirstSeedOption = 1,
) -> None:
    """Stream simulated scenes by RTSP, until Ctrl-C.

    The cameras are rtsp://127.0.0.1:8554/cam1, cam2 and so on. Each frame carries its number in its upper left corner;
    OUT/cam1.truth.jsonl says what is in the frame of that number. Needs GStreamer's RTSP server.
    """
    from contextlib import ExitStack  # noqa: PLC0415 - with the others

    from imgpipeline.sources.simulator.rtsp_simulator import (  # noqa: PLC0415 - as above
        RtspSimulator,
        check_program,
        serve_api,
    )

    if codec not in _CODECS:
        raise UsageError(f"--codec is {codec!r}, expected {' or '.join(_CODECS)}.", next_step="choose one of them")
    check_program()
    frames = max(1, round(scene_s * fps))
    plans = [_camera(f"cam{n}", first_seed + n - 1, frames, fps, codec, out) for n in range(1, cameras + 1)]
    with ExitStack() as stack:
        stopping = stack.enter_context(stopped_by_signals())
        simulator = stack.enter_context(RtspSimulator(plans, host=host, port=port))
        if api_port is not None:
            note(f"Status: http://{host}:{stack.enter_context(serve_api(simulator, api_port, host))}/v1/paths")
        for plan in plans:
            note(f"{simulator.url(plan.path)}  (truth: {out / plan.path}.truth.jsonl)")
        stopping.event.wait(duration_s)
    raise typer.Exit(stopping.exit_status)


def _camera(path: str, seed: int, frames: int, fps: float, codec: str, out: Path) -> "SimulatedCamera":
    from imgpipeline.sources.simulator.clip import write_scene_clip  # noqa: PLC0415 - loads PyAV
    from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera  # noqa: PLC0415 - as above
    from imgpipeline.sources.simulator.scene import Scene  # noqa: PLC0415 - as above

    clip = write_scene_clip(Scene(seed, frames=frames, hour=12.0), out, name=path, codec=codec, fps=fps)
    return SimulatedCamera(path, str(clip.resolve()), codec, fps)
