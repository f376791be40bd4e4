"""Simulated scenes with exact ground truth: objects move, hide behind pillars, and are sometimes missed."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from imgpipeline.settings import load_settings
from imgpipeline.tracking.values import FrameBoxes, SliceTrack, TrackingParameters

START = datetime(2026, 1, 9, 12, 0, tzinfo=UTC)
START_US = int(START.timestamp() * 1e6)
WIDTH, HEIGHT = 1280.0, 720.0
Box = tuple[float, float, float, float]


def parameters(**changes: object) -> TrackingParameters:
    """Return the default parameters, with changes of settings."""
    return TrackingParameters.of(load_settings(**changes))


def frame(number: int, boxes: Sequence[Box], *, at_s: float, confidence: float = 0.9) -> FrameBoxes:
    """Return one frame; `at_s` counts from the start of the scene."""
    return FrameBoxes(
        f"{number:032x}",
        START_US + round(at_s * 1e6),
        np.arange(len(boxes)),
        np.array(boxes, dtype=float).reshape(len(boxes), 4),
        np.full(len(boxes), confidence),
    )


def moving(
    times_s: Iterable[float], *, x: float = 100, speed: float = 50, without: Iterable[int] = ()
) -> list[FrameBoxes]:
    """Return frames of one car that drives to the right; it is not found in the frames `without`."""
    missed = set(without)
    return [
        frame(n, [] if n in missed else [(x + speed * t, 300, x + speed * t + 80, 360)], at_s=t)
        for n, t in enumerate(times_s)
    ]


def every(interval_s: float, count: int, *, start_s: float = 0.0) -> list[float]:
    """Return the times of `count` frames."""
    return [start_s + n * interval_s for n in range(count)]


def seconds(frames: Sequence[FrameBoxes], track: SliceTrack) -> tuple[float, float]:
    """Return from when to when a track goes, in seconds of the scene."""
    times = [(frames[point.frame].time_us - START_US) / 1e6 for point in track.points]
    return times[0], times[-1]


@dataclass(slots=True)
class Scene:
    """A scene's detections, and which object each of them is."""

    frames: list[FrameBoxes] = field(default_factory=list)
    """What a detector found."""
    truth: list[list[int]] = field(default_factory=list)
    """For each box of each frame the object it is, from 0; -1 for a false detection."""
    objects: int = 0
    """Objects that were visible for a second or more."""


def street(seed: int, *, objects: int = 20, duration_s: float = 100.0, frame_rate: float = 10.0) -> Scene:
    """Return people that walk past three pillars, each of which hides them; the detector misses one box in twenty."""
    rng = random.Random(seed)  # noqa: S311 - it hides nothing
    pillars = [(260.0, 340.0), (600.0, 700.0), (980.0, 1060.0)]
    walkers = [
        (rng.uniform(0, duration_s - 20), rng.choice((-1, 1)) * rng.uniform(60, 140), rng.uniform(150, 600),
         rng.uniform(36, 52))
        for _ in range(objects)
    ]  # fmt: skip
    scene, seen = Scene(), dict.fromkeys(range(objects), 0)
    for number in range(int(duration_s * frame_rate)):
        at_s = number / frame_rate
        boxes: list[Box] = []
        who: list[int] = []
        for index, (begins_s, speed, y, width) in enumerate(walkers):
            center = (0 if speed > 0 else WIDTH) + speed * (at_s - begins_s)
            if at_s < begins_s or not 0 <= center <= WIDTH:
                continue
            if any(left <= center <= right for left, right in pillars):
                continue
            seen[index] += 1
            if rng.random() < 0.05:
                continue
            x, top = center + rng.gauss(0, 1.5), y + rng.gauss(0, 1.5)
            boxes.append((x - width / 2, top - width, x + width / 2, top + width))
            who.append(index)
        if rng.random() < 0.02:
            x, top = rng.uniform(50, WIDTH - 50), rng.uniform(80, HEIGHT - 80)
            boxes.append((x - 20, top - 40, x + 20, top + 40))
            who.append(-1)
        scene.frames.append(frame(number, boxes, at_s=at_s))
        scene.truth.append(who)
    scene.objects = sum(frames >= frame_rate for frames in seen.values())
    return scene
