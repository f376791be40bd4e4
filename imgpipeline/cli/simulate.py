"""`imgpipeline simulate`: simulated cameras with ground truth, over RTSP, MQTT or in folders."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.ingest_live import BrokerHostOption, BrokerPortOption, DurationOption, broker_settings
from imgpipeline.cli.output import note
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera

app = typer.Typer(help="Simulate cameras with ground truth, over RTSP, MQTT or in folders.")
_CODECS = ("h264", "mjpeg")
_PATTERNS = ("scene", "rotate")

CamerasOption = Annotated[int, typer.Option("--cameras", min=1, max=64, help="Number of cameras.")]
CameraFpsOption = Annotated[float, typer.Option("--fps", min=0.1, max=60, help="Frames per second of each camera.")]
FirstSeedOption = Annotated[int, typer.Option("--first-seed", min=0, help="Seed of the first camera's scene.")]


@app.command("rtsp")
def rtsp(  # noqa: PLR0913, PLR0917 - one parameter for each option
    cameras: CamerasOption = 1,
    fps: CameraFpsOption = 5.0,
    scene_s: Annotated[float, typer.Option(min=1, max=600, help="Seconds until a camera's scene repeats.")] = 20.0,
    codec: Annotated[str, typer.Option(help="h264 or mjpeg.")] = "h264",
    duration_s: DurationOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the clips and their ground truth.")] = Path("simulated"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the RTSP server.")] = 8554,
    api_port: Annotated[
        int | None, typer.Option(help="Also serve /v1/config, /v1/paths and /metrics on this port, such as 9997.")
    ] = None,
    first_seed: FirstSeedOption = 1,
) -> None:
    """Stream simulated scenes by RTSP, until Ctrl-C.

    The cameras are rtsp://127.0.0.1:8554/cam1, cam2 and so on. Each frame shows its number in the upper left corner;
    OUT/cam1.truth.jsonl has the ground truth of each number. Needs GStreamer's RTSP server.
    """
    from imgpipeline.sources.simulator.rtsp_simulator import (  # noqa: PLC0415 - `--help` does not wait for it
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
    from imgpipeline.sources.simulator.rtsp_simulator import (  # noqa: PLC0415 - loads PyAV
        SimulatedCamera,
        write_scene_clip,
    )
    from imgpipeline.sources.simulator.scene import Scene  # noqa: PLC0415 - as above

    clip = write_scene_clip(Scene(seed, frames=frames, hour=12.0), out, name=path, codec=codec, fps=fps)
    return SimulatedCamera(path, str(clip.resolve()), codec, fps)


@app.command("mqtt")
def mqtt(
    cameras: CamerasOption = 1,
    fps: CameraFpsOption = 5.0,
    duration_s: Annotated[float, typer.Option("--duration", min=0.1, help="Stop after this many seconds.")] = 10.0,
    payload: Annotated[str, typer.Option(metavar="[image|json]", help="What the messages contain.")] = "image",
    out: Annotated[Path, typer.Option(help="Folder for the images and their ground truth.")] = Path("simulated"),
    topic: Annotated[str, typer.Option(help="MQTT topic of a camera.")] = "images/{camera}/raw",
    host: BrokerHostOption = None,
    port: BrokerPortOption = None,
) -> None:
    """Publish simulated scenes to an MQTT broker, one message per frame.

    The folder OUT/cam1 gets the images of the first camera, and their ground truth in truth.jsonl. User and password
    are settings (IMGPIPELINE_MQTT_…).
    """
    from imgpipeline.sources.mqtt.messages import parse_payload  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.sources.mqtt.simulate import Simulation, simulate_mqtt  # noqa: PLC0415 - as above

    settings = load_settings(**broker_settings(host, port))
    simulation = Simulation(cameras, fps, duration_s, topic, parse_payload(payload))
    with stopped_by_signals() as stopping:
        sent = simulate_mqtt(settings, simulation, out, stop=stopping.event)
    note(f"{counted(sent, 'frame')} of {counted(cameras, 'camera')} published. Ground truth: {out}/cam1/truth.jsonl")
    raise typer.Exit(stopping.exit_status)


@app.command("folder")
def folder(
    cameras: CamerasOption = 1,
    fps: Annotated[
        float, typer.Option(min=0, max=60, help="Images per second of each camera; 0: as fast as possible.")
    ] = 5.0,
    count: Annotated[int, typer.Option(min=1, help="Images of each camera.")] = 10,
    pattern: Annotated[
        str, typer.Option(help="scene: a street. rotate: copies of --image, turned by 90° at every fourth.")
    ] = "scene",
    image: Annotated[Path | None, typer.Option(help="The image of --pattern rotate.")] = None,
    name: Annotated[str, typer.Option(help="Names of the images; {n} is the number, from 1 on.")] = "{n:05d}.jpg",
    out: Annotated[Path, typer.Option(help="Folder in which each camera gets a folder.")] = Path("simulated"),
    first_seed: FirstSeedOption = 1,
) -> None:
    """Drop images of simulated cameras into folders, for `imgpipeline ingest folder --watch`.

    The folders are OUT/cam1, cam2 and so on. No image is visible before it is complete. OUT/cam1.truth.jsonl has
    the ground truth.
    """
    from imgpipeline.sources.simulator import writer  # noqa: PLC0415 - loads OpenCV

    if pattern not in _PATTERNS or (pattern == "rotate") != (image is not None):
        raise UsageError(f"--pattern is {pattern}.", next_step="give scene, or rotate with --image FILE")
    try:
        original = image.read_bytes() if image else b""
    except OSError as error:
        raise ConfigurationError(f"{image} cannot be read: {error.strerror}.", next_step="name an image") from None

    with stopped_by_signals() as stopping, ThreadPoolExecutor(cameras) as pool:

        def run(number: int) -> int:
            at = out / f"cam{number}"
            pictures = (
                writer.rotated_pictures(original, count)
                if image
                else writer.scene_pictures(first_seed + number - 1, count)
            )
            truth = writer.truth_of(at)
            return writer.write_pictures(at, pictures, name=name, fps=fps, stop=stopping.event, truth_file=truth)

        written = sum(pool.map(run, range(1, cameras + 1)))
    note(f"{counted(written, 'image')} of {counted(cameras, 'camera')} written to {out}.")
