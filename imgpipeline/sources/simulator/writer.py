"""Writes simulated images as files, with their truth: a whole scene (`write_scene`), or a camera (`write_pictures`).

The `truth.jsonl` of a scene has one JSON document per line: `{"file", "source", "frame_number", "timestamp", "objects":
[{"label", "track_id", "box": [x, y, w, h], "visible"}]}` with the file name relative to the folder, an RFC 3339
timestamp in UTC, boxes in px and the visible share 0..1. It is written last, and appears when it is complete.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import cv2
import numpy as np

from imgpipeline.contracts.times import format_time
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import Truth
from imgpipeline.vision.annotate import encode_jpeg

TRUTH_NAME = "truth.jsonl"


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """The truth of one written frame."""

    file: str
    source: str
    frame_number: int
    timestamp: datetime
    objects: tuple[Truth, ...]
    """All objects that are visible at least in part."""


def write_scene(
    scene: Scene,
    folder: Path,
    *,
    source: str,
    start: datetime,
    interval_s: float = 1.0,
    first_frame_number: int = 0,
) -> list[FrameTruth]:
    """Writes a scene's frames as `frame_000000.jpg` … and the truth as `truth.jsonl`.

    The modification time of a file is the time of its frame, so a program that ingests the folder without the truth
    gets the right times, too. Existing frames of the same names are replaced.

    Args:
        start: Time of the first frame, aware.
        interval_s: Seconds from frame to frame, > 0.
        first_frame_number: Number of the first frame, >= 0, for a camera whose frames continue another scene.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for index in range(len(scene)):
        timestamp = start.astimezone(UTC) + index * timedelta(seconds=interval_s)
        frames.append(_write_frame(scene, index, folder, source, first_frame_number + index, timestamp))
    unfinished = folder / f"{TRUTH_NAME}.unfinished"
    unfinished.write_text("".join(json.dumps(_to_json(f)) + "\n" for f in frames), encoding="utf-8")
    unfinished.replace(folder / TRUTH_NAME)
    return frames


def _write_frame(
    scene: Scene, index: int, folder: Path, source: str, frame_number: int, timestamp: datetime
) -> FrameTruth:
    jpeg, objects = scene.jpeg(index)
    path = folder / f"frame_{frame_number:06d}.jpg"
    path.write_bytes(jpeg)
    os.utime(path, (timestamp.timestamp(),) * 2)
    return FrameTruth(path.name, source, frame_number, timestamp, tuple(objects))


def _to_json(frame: FrameTruth) -> dict[str, Any]:
    return {
        "file": frame.file,
        "source": frame.source,
        "frame_number": frame.frame_number,
        "timestamp": format_time(frame.timestamp),
        "objects": [object_to_json(truth) for truth in frame.objects],
    }


def object_to_json(truth: Truth) -> dict[str, Any]:
    """Returns an object in the form of `truth.jsonl`."""
    return {"label": truth.label, "track_id": truth.track_id, "box": list(truth.box_xywh), "visible": truth.visible}


@dataclass(frozen=True, slots=True)
class SimulatedImage:
    """One image of a simulated camera."""

    number: int
    data: bytes
    truth: dict[str, object]
    """Its truth, as one line of `truth.jsonl`."""


def rotated_pictures(original: bytes, count: int = 10) -> Iterator[SimulatedImage]:
    """Yields byte copies of a picture; numbers 3, 7, 11 and so on are the previous picture rotated by 90 degrees.

    So only these pictures differ from the previous ones.

    Raises:
        ConfigurationError: The picture cannot be decoded.
    """
    data = original
    for number in range(1, count + 1):
        is_turned = number % 4 == 3
        if is_turned:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if pixels is None:
                raise ConfigurationError("The picture cannot be decoded.", next_step="name a JPEG or PNG file")
            data = encode_jpeg(np.asarray(cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE), np.uint8))
        yield SimulatedImage(number, data, {"frame_number": number, "differs_from_previous": is_turned})


def scene_pictures(seed: int, count: int) -> Iterator[SimulatedImage]:
    """Yields the images of a simulated street, with all objects that are visible at least in part."""
    scene = Scene(seed, frames=count)
    for number in range(count):
        data, truths = scene.jpeg(number)
        document = {"frame_number": number + 1, "objects": list(map(object_to_json, truths))}
        yield SimulatedImage(number + 1, data, document)


def write_pictures(
    folder: Path, pictures: Iterator[SimulatedImage], *, name: str, fps: float, stop: Event, truth_file: Path
) -> int:
    """Writes images at a steady rate, and their truth line by line.

    Args:
        name: Template of the file names with `{n}`, such as `{n:05d}.jpg`.
        fps: Images per second; 0: as fast as possible.
        truth_file: Gets one JSON line after each image; outside the folder or hidden in it.

    Raises:
        ConfigurationError: The template is not valid, or an image of that name exists.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth_file.parent.mkdir(parents=True, exist_ok=True)
    began_s, written = monotonic(), 0
    with truth_file.open("a", encoding="utf-8") as truths:
        for written, picture in enumerate(pictures, 1):
            if stop.wait(max(0.0, began_s + (written - 1) / fps - monotonic()) if fps else 0.0):
                return written - 1
            path = folder / _named(name, picture.number)
            _write(path, picture.data)
            truths.write(json.dumps({"file": path.name, **picture.truth}) + "\n")
            truths.flush()
    return written


def truth_of(folder: Path) -> Path:
    """Returns the path of the truth of a camera's folder: next to the folder, so that it is not ingested."""
    return folder.with_name(f"{folder.name}.{TRUTH_NAME}")


def _named(template: str, number: int) -> str:
    try:
        name = template.format(n=number)
    except (LookupError, ValueError) as error:
        raise ConfigurationError(f"--name {template!r}: {error}.", next_step="such as '{n:05d}.jpg'") from None
    if "/" in name or name in ("", ".", ".."):
        raise ConfigurationError(f"--name {template!r} names no file.", next_step="such as '{n:05d}.jpg'")
    return name


def _write(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    try:
        path.hardlink_to(unfinished)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} exists already.", next_step="name another folder with --output, or empty it"
        ) from None
    finally:
        unfinished.unlink()
