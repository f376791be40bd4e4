"""Frames, objects and rules for the tests of events."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np

from imgpipeline.contracts.outcomes import Frame
from imgpipeline.events.configuration import Rules, parse_rules
from imgpipeline.events.values import SeenFrame, SeenObject
from imgpipeline.objectstore import ObjectStore
from imgpipeline.sources.simulator.writer import rotated_pictures
from imgpipeline_tests.ledger.samples import frame

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
SIZE = (200, 100)
CHANGE = '[[rule]]\nname = "changed"\nkind = "image_change"\n'
EVERY_KIND = (
    CHANGE + '[[zone]]\nname = "left"\nsource = "yard"\npoints = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]\n'
    '[[line]]\nname = "middle"\nsource = "yard"\npoints = [[0.5, 0], [0.5, 1]]\nforward = "in"\nbackward = "out"\n'
    '[[rule]]\nname = "crossed"\nkind = "line_crossing"\nline = "middle"\n'
)
"""Rules, a zone and a line of the source `yard`: something for every table that rules make."""
ZONE = '[[zone]]\nname = "yard"\nsource = "cam-1"\npoints = [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]\n'
LINE = (
    '[[line]]\nname = "door"\nsource = "cam-1"\npoints = [[0.2, 0.5], [0.8, 0.5]]\nforward = "in"\nbackward = "out"\n'
)

ROAD = '[[zone]]\nname = "road"\nsource = "gate"\npoints = [[0, 0.3], [1, 0.3], [1, 0.4], [0, 0.4]]\n'
LOITERS = '[[rule]]\nname = "loiters"\nkind = "dwell_time"\nzone = "road"\nlabels = ["car"]\nseconds = 900\n'
STOP = (
    '[[line]]\nname = "stop"\nsource = "gate"\nsize = [640, 480]\npoints = [[95, 100], [95, 300]]\nbackward = "out"\n'
)
CROSSES = '[[rule]]\nname = "crosses"\nkind = "line_crossing"\nline = "stop"\n'


def at(minute: int, second: int = 0) -> datetime:
    """Return a time after noon."""
    return datetime(2026, 1, 9, 12, minute, second, tzinfo=UTC)


def rules(text: str) -> Rules:
    """Read rules that the file's checks accept."""
    return parse_rules(text, name="rules.toml")


def standing(x: float, y: float, *, label: str = "person", track: str | None = None) -> SeenObject:
    """Return an object of 10 x 20 pixels with its foot point at (x, y)."""
    return SeenObject(label, 0.9, (x - 5, y - 20, 10, 20), track)


def seen(second: float, *objects: SeenObject, source: str = "cam-1") -> SeenFrame:
    """Return a frame of 200 x 100 pixels at a second after noon."""
    at = NOON + timedelta(seconds=second)
    name = f"{source}-{second:08.3f}"
    return SeenFrame(name, source, at, f"images/{name}.jpg", SIZE, objects)


def square_picture() -> np.ndarray:
    """Return a picture that is as wide as high and changes when it is turned."""
    pixels = np.zeros((48, 48, 3), np.uint8)
    pixels[:10, :, 1], pixels[:, :7, 2] = 200, 90
    return pixels


def png(pixels: np.ndarray) -> bytes:
    """Encode without loss."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def stored_frames(store: ObjectStore, images: Sequence[bytes], *, first: int = 0, **changes: Any) -> list[Frame]:
    """Store images, one a second from noon on, and return their frames."""
    made = []
    for number, data in enumerate(images, start=first):
        key = f"images/cam-1/{number:05d}.jpg"
        store.put(key, data)
        at = NOON + timedelta(seconds=number)
        made.append(replace(frame(number), source_image_path=key, timestamp=at, **changes))
    return made


def rotated() -> list[bytes]:
    """Return the ten images of the classic mock receiver: the third and the seventh are turned."""
    return [picture.data for picture in rotated_pictures(png(square_picture()))]
