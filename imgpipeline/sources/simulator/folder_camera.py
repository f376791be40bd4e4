"""Simulated cameras that write their images into folders; each image is complete when it appears.

`rotated_pictures` is the classic mock receiver: copies of one picture, every fourth of them rotated by 90 degrees.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

import cv2
import numpy as np

from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.writer import TRUTH_NAME
from imgpipeline.vision.annotate import encode_jpeg


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a simulated camera."""

    number: int
    """Its number, from 1."""
    data: bytes
    """Its encoded bytes."""
    truth: dict[str, object]
    """Its truth, as one line of `truth.jsonl`."""


def rotated_pictures(original: bytes, count: int = 10) -> Iterator[Picture]:
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
        yield Picture(number, data, {"frame_number": number, "differs_from_previous": is_turned})


def scene_pictures(seed: int, count: int) -> Iterator[Picture]:
    """Yields the images of a simulated street, with all objects that are visible at least in part."""
    scene = Scene(seed, frames=count)
    for number in range(count):
        data, truths = scene.jpeg(number)
        objects = [{"label": truth.label, "track_id": truth.track_id, "visible": truth.visible,
                    "box_xyxy": list(truth.box_xyxy)} for truth in truths]  # fmt: skip
        yield Picture(number + 1, data, {"frame_number": number + 1, "objects": objects})


def write_pictures(
    folder: Path, pictures: Iterator[Picture], *, name: str, fps: float, stop: Event, truth_file: Path
) -> int:
    """Writes images at a steady rate, and their truth line by line.

    Args:
        folder: Folder of the images; created if missing.
        pictures: The images.
        name: Template of the file names with `{n}`, such as `{n:05d}.jpg`.
        fps: Images per second; 0: as fast as possible.
        stop: Ends the work early.
        truth_file: Gets one JSON line after each image; outside the folder or hidden in it.

    Returns:
        How many images were written.

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
            f"{path} exists already.", next_step="name another folder with --out, or empty it"
        ) from None
    finally:
        unfinished.unlink()
