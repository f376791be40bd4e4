"""`imgpipeline demo` and `simulate`: simulated cameras with ground truth, with or without the whole pipeline."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from imgpipeline.cli.ingest_live import BrokerHostOption, BrokerPortOption, PayloadOption, broker_settings
from imgpipeline.cli.models import refuse_unknown_model
from imgpipeline.cli.options import DurationOption, command
from imgpipeline.cli.output import note, stdout_console
from imgpipeline.cli.running import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.settings import load_settings
from imgpipeline.sources.mqtt.messages import parse_payload
from imgpipeline.sources.mqtt.simulate import Simulation, simulate_mqtt
from imgpipeline.sources.simulator import writer
from imgpipeline.sources.simulator.rtsp_simulator import (
    RtspSimulator,
    SimulatedCamera,
    check_program,
    numbered_frames,
    serve_api,
    write_scene_clip,
)
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.vision.clip_file import SUFFIXES, ClipImage, write_clip_file

app = typer.Typer()

CamerasOption = Annotated[int, typer.Option("--cameras", min=1, max=64, help="Number of cameras.")]
CameraFpsOption = Annotated[float, typer.Option("--fps", min=0.1, max=60, help="Frames per second of each camera.")]
FirstSeedOption = Annotated[int, typer.Option("--first-seed", min=0, help="Seed of the first camera's scene.")]


@command(app, "rtsp")
def rtsp(
    cameras: CamerasOption = 1,
    fps: CameraFpsOption = 5.0,
    scene_s: Annotated[float, typer.Option(min=1, max=600, help="Seconds until a camera's scene repeats.")] = 20.0,
    codec: Annotated[Literal["h264", "mjpeg"], typer.Option(help="Encoding of the streams.")] = "h264",
    duration_s: DurationOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the clips and their ground truth.")] = Path(
        "simulated"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the RTSP server.")] = 8554,
    api_port: Annotated[
        int | None, typer.Option(help="Also serve /v1/config, /v1/paths and /metrics on this port, such as 9997.")
    ] = None,
    first_seed: FirstSeedOption = 1,
) -> None:
    """Stream simulated scenes by RTSP, until Ctrl-C.

    The cameras are rtsp://127.0.0.1:8554/cam1, cam2 and so on. Each frame shows its number in the upper left corner;
    OUTPUT/cam1.truth.jsonl has the ground truth of each number. Needs GStreamer's RTSP server.
    """
    check_program()
    frames = max(1, round(scene_s * fps))
    plans = [_camera(f"cam{n}", first_seed + n - 1, frames, fps, codec, output) for n in range(1, cameras + 1)]
    with ExitStack() as stack:
        stopping = stack.enter_context(stopped_by_signals())
        simulator = stack.enter_context(RtspSimulator(plans, host=host, port=port))
        if api_port is not None:
            note(f"Status: http://{host}:{stack.enter_context(serve_api(simulator, api_port, host))}/v1/paths")
        for plan in plans:
            note(f"{simulator.url(plan.path)}  (truth: {output / plan.path}.truth.jsonl)")
        stopping.event.wait(duration_s)
    raise typer.Exit(stopping.exit_status)


def _camera(path: str, seed: int, frames: int, fps: float, codec: str, out: Path) -> "SimulatedCamera":
    clip = write_scene_clip(Scene(seed, frames=frames, hour=12.0), out, name=path, codec=codec, fps=fps)
    return SimulatedCamera(path, str(clip.resolve()), codec, fps)


@command(app, "video")
def video(
    file: Annotated[Path, typer.Argument(help="The video to write, .mp4 or .gif.")],
    duration_s: Annotated[float, typer.Option("--duration", min=0.1, max=600, help="Seconds of video.")] = 10.0,
    fps: CameraFpsOption = 10.0,
    first_seed: FirstSeedOption = 1,
) -> None:
    """Write a test video of a simulated scene; each frame shows its number in the upper left corner."""
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file} is not a video.", next_step=f"name a file that ends in {' or '.join(SUFFIXES)}")
    scene = Scene(first_seed, frames=max(1, round(duration_s * fps)), hour=12.0)
    try:
        written = write_clip_file(
            (ClipImage(number / fps, picture) for number, (picture, _) in enumerate(numbered_frames(scene))), file
        )
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}.", next_step="name another") from None
    note(f"{file}: {counted(written, 'frame')}.")


@command(app, "mqtt")
def mqtt(
    cameras: CamerasOption = 1,
    fps: CameraFpsOption = 5.0,
    duration_s: Annotated[float, typer.Option("--duration", min=0.1, help="Stop after this many seconds.")] = 10.0,
    payload: PayloadOption = "image",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the images and their ground truth.")
    ] = Path("simulated"),
    topic: Annotated[str, typer.Option(help="MQTT topic of a camera.")] = "images/{camera}/raw",
    host: BrokerHostOption = None,
    port: BrokerPortOption = None,
) -> None:
    """Publish simulated scenes to an MQTT broker, one message per frame.

    The folder OUTPUT/cam1 gets the images of the first camera, and their ground truth in truth.jsonl. User and password
    are settings (IMGPIPELINE_MQTT_…).
    """
    settings = load_settings(**broker_settings(host, port))
    simulation = Simulation(cameras, fps, duration_s, topic, parse_payload(payload))
    with stopped_by_signals() as stopping:
        sent = simulate_mqtt(settings, simulation, output, stop=stopping.event)
    note(f"{counted(sent, 'frame')} of {counted(cameras, 'camera')} published. Ground truth: {output}/cam1/truth.jsonl")
    raise typer.Exit(stopping.exit_status)


@command(app, "folder")
def folder(
    cameras: CamerasOption = 1,
    fps: Annotated[
        float, typer.Option(min=0, max=60, help="Images per second of each camera; 0: as fast as possible.")
    ] = 5.0,
    count: Annotated[int, typer.Option(min=1, help="Images of each camera.")] = 10,
    pattern: Annotated[
        Literal["scene", "rotate"],
        typer.Option(help="scene: a street. rotate: copies of --image, turned by 90° at every fourth."),
    ] = "scene",
    image: Annotated[Path | None, typer.Option(help="The image of --pattern rotate.")] = None,
    name: Annotated[str, typer.Option(help="Names of the images; {n} is the number, from 1 on.")] = "{n:05d}.jpg",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder in which each camera gets a folder.")] = Path(
        "simulated"
    ),
    first_seed: FirstSeedOption = 1,
) -> None:
    """Drop images of simulated cameras into folders, for `imgpipeline ingest folder --watch`.

    The folders are OUTPUT/cam1, cam2 and so on. No image is visible before it is complete. OUTPUT/cam1.truth.jsonl has
    the ground truth.
    """
    if (pattern == "rotate") != (image is not None):
        raise UsageError(f"--pattern is {pattern}.", next_step="give scene, or rotate with --image FILE")
    try:
        original = image.read_bytes() if image else b""
    except OSError as error:
        raise ConfigurationError(f"{image} cannot be read: {error.strerror}.", next_step="name an image") from None

    with stopped_by_signals() as stopping, ThreadPoolExecutor(cameras) as pool:

        def run(number: int) -> int:
            at = output / f"cam{number}"
            pictures = (
                writer.rotated_pictures(original, count)
                if image
                else writer.scene_pictures(first_seed + number - 1, count)
            )
            truth = writer.truth_of(at)
            return writer.write_pictures(at, pictures, name=name, fps=fps, stop=stopping.event, truth_file=truth)

        written = sum(pool.map(run, range(1, cameras + 1)))
    note(f"{counted(written, 'image')} of {counted(cameras, 'camera')} written to {output}.")


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
    from imgpipeline.demo.run import DemoOptions, default_folder, is_watched, run_demo

    if sum(map(bool, (images, video, cameras))) > 1:
        raise UsageError("Two of --images, --video and --cameras are given.", next_step="give one of them")
    refuse_unknown_model(model, None, or_file=True)
    keep = is_watched() if keep is None else keep
    options = DemoOptions(folder or default_folder(), model, images, video, cameras, keep, viewer_port)
    if not run_demo(options, stdout_console()):
        raise typer.Exit(1)
