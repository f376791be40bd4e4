"""Simulated cameras that publish to an MQTT broker; their images and truth are also written to files."""

import base64
import json
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from imgpipeline.contracts.times import Clock, format_time, utc_now
from imgpipeline.errors import TransientError
from imgpipeline.settings import Settings
from imgpipeline.sources.mqtt.login import authenticate
from imgpipeline.sources.mqtt.messages import Payload
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.writer import FrameTruth, write_scene

_ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class Simulation:
    """Which cameras there are, and what they publish."""

    cameras: int = 1
    """Number of cameras, which are called `cam1`, `cam2` and so on."""
    fps: float = 5.0
    """Frames per second of each camera."""
    seconds: float = 10.0
    """How long they publish."""
    topic: str = "images/{camera}/raw"
    """Topic of each camera."""
    payload: Payload = Payload.IMAGE
    """What the messages contain."""
    first_seed: int = 1
    """Seed of the first camera's scene."""


def simulate_mqtt(
    settings: Settings,
    simulation: Simulation,
    folder: Path,
    *,
    stop: threading.Event | None = None,
    clock: Clock = utc_now,
) -> int:
    """Writes the scenes with their truth to `FOLDER/{camera}/`, then publishes them at the pace of the cameras.

    Args:
        settings: The broker.
        simulation: What is published.
        folder: Where the images and `truth.jsonl` of each camera go.
        stop: Ends the simulation early.
        clock: Returns the current time.

    Returns:
        How many messages the broker has accepted.

    Raises:
        TransientError: The broker does not answer.
        ConfigurationError: A file of the settings cannot be read.
    """
    stop = stop or threading.Event()
    count, interval_s = max(1, round(simulation.seconds * simulation.fps)), 1 / simulation.fps
    # The first frame is due when all scenes are written; drawing a frame takes about 10 ms.
    start = clock() + timedelta(seconds=0.02 * count * simulation.cameras)
    truths: list[list[FrameTruth]] = []
    for number in range(1, simulation.cameras + 1):
        scene = Scene(simulation.first_seed + number - 1, frames=count, hour=12.0)
        camera = f"cam{number}"
        truths.append(write_scene(scene, folder / camera, source=camera, start=start, interval_s=interval_s))
    client, sent = _connected(settings), 0
    try:
        for frames in zip(*truths, strict=True):
            if stop.wait(max(0.0, (frames[0].timestamp - clock()).total_seconds())):
                break
            messages = [_publish(client, simulation, folder, frame) for frame in frames]
            for message in messages:
                message.wait_for_publish(_ANSWER_S)
                sent += message.is_published()
    except (RuntimeError, ValueError) as error:
        raise TransientError(f"The MQTT broker accepts no messages: {error}.") from error
    finally:
        client.disconnect()
        client.loop_stop()
    return sent


def _connected(settings: Settings) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    authenticate(client, settings)
    try:
        client.connect(settings.mqtt_host, settings.mqtt_port)
    except OSError as error:
        raise TransientError(
            f"The MQTT broker {settings.mqtt_host}:{settings.mqtt_port} cannot be reached: {error}.",
            next_step="start it, or name another one: --host, --port",
        ) from error
    client.loop_start()
    return client


def _publish(client: paho.Client, simulation: Simulation, folder: Path, frame: FrameTruth) -> paho.MQTTMessageInfo:
    image = (folder / frame.source / frame.file).read_bytes()
    if simulation.payload is Payload.JSON:
        document = {
            "image": base64.b64encode(image).decode(),
            "timestamp": format_time(frame.timestamp),
            "number": frame.frame_number,
        }
        image = json.dumps(document).encode()
    return client.publish(simulation.topic.replace("{camera}", frame.source), image, qos=1)
