"""Simulated cameras that publish to an MQTT broker; their images and truth are also written to files."""

import base64
import json
import threading
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from imgpipeline.contracts.times import Clock, format_time, utc_now
from imgpipeline.settings import Settings
from imgpipeline.sources.mqtt.connection import MqttMessage, MqttSender
from imgpipeline.sources.mqtt.messages import Payload
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.writer import FrameTruth, write_scene


@dataclass(frozen=True, slots=True)
class Simulation:
    """Which cameras there are, and what they publish."""

    cameras: int = 1
    """Number of cameras, which are called `cam1`, `cam2` and so on."""
    fps: float = 5.0
    seconds: float = 10.0
    topic: str = "images/{camera}/raw"
    payload: Payload = Payload.IMAGE


def simulate_mqtt(
    settings: Settings,
    simulation: Simulation,
    folder: Path,
    *,
    stop: threading.Event | None = None,
    clock: Clock = utc_now,
) -> int:
    """Writes the scenes with their truth to `FOLDER/{camera}/`, then publishes them at the pace of the cameras.

    Raises:
        TransientError: The broker does not answer.
        ConfigurationError: A file of the settings cannot be read, or the broker refuses the login.
    """
    stop = stop or threading.Event()
    count, interval_s = max(1, round(simulation.seconds * simulation.fps)), 1 / simulation.fps
    # The first frame is due when all scenes are written; drawing a frame takes about 10 ms.
    start = clock() + timedelta(seconds=0.02 * count * simulation.cameras)
    truths: list[list[FrameTruth]] = []
    for number in range(1, simulation.cameras + 1):
        scene = Scene(number, frames=count, hour=12.0)
        camera = f"cam{number}"
        truths.append(write_scene(scene, folder / camera, source=camera, start=start, interval_s=interval_s))
    sent = 0
    with closing(MqttSender(settings)) as sender:
        sender.open()
        for frames in zip(*truths, strict=True):
            if stop.wait(max(0.0, (frames[0].timestamp - clock()).total_seconds())):
                break
            sender.send([_message(simulation, folder, frame) for frame in frames])
            sent += len(frames)
    return sent


def _message(simulation: Simulation, folder: Path, frame: FrameTruth) -> MqttMessage:
    image = (folder / frame.source / frame.file).read_bytes()
    if simulation.payload is Payload.JSON:
        document = {
            "image": base64.b64encode(image).decode(),
            "timestamp": format_time(frame.timestamp),
            "number": frame.frame_number,
        }
        image = json.dumps(document).encode()
    return MqttMessage(simulation.topic.replace("{camera}", frame.source), image)
