"""`imgpipeline simulate mqtt`: simulated cameras that publish to a real MQTT broker."""

from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.ingest_mqtt import BrokerHostOption, BrokerPortOption
from imgpipeline.cli.output import note
from imgpipeline.cli.simulated_cameras import CameraFpsOption, CamerasOption
from imgpipeline.cli.stopping import stopped_by_signals
from imgpipeline.contracts.text import counted
from imgpipeline.settings import load_settings


def mqtt(
    cameras: CamerasOption = 1,
    fps: CameraFpsOption = 5.0,
    duration_s: Annotated[float, typer.Option("--duration", min=0.1, help="Seconds.")] = 10.0,
    payload: Annotated[str, typer.Option(metavar="[image|json]", help="What the messages hold.")] = "image",
    out: Annotated[Path, typer.Option(help="Folder for the images and their truth.")] = Path("simulated"),
    topic: Annotated[str, typer.Option(help="Topic of a camera.")] = "images/{camera}/raw",
    host: BrokerHostOption = None,
    port: BrokerPortOption = None,
) -> None:
    """Publish simulated scenes to an MQTT broker, one message a frame.

    OUT/cam1/truth.jsonl says what is in each frame, and the images lie beside it. User and password are settings
    (IMGPIPELINE_MQTT_…).
    """
    from imgpipeline.sources.mqtt.messages import parse_payload  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.sources.mqtt.simulate import Simulation, simulate_mqtt  # noqa: PLC0415 - as above

    given = {"mqtt_host": host, "mqtt_port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    simulation = Simulation(cameras, fps, duration_s, topic, parse_payload(payload))
    with stopped_by_signals() as stopping:
        sent = simulate_mqtt(settings, simulation, out, stop=stopping.event)
    note(f"{counted(sent, 'frame')} of {counted(cameras, 'camera')} published. Their truth: {out}/cam1/truth.jsonl")
    raise typer.Exit(stopping.exit_status)
