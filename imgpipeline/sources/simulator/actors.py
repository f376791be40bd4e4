"""The objects of a scene and their positions in each frame; `drawing` draws them.

Objects enter, cross and leave the street, and hide each other only a little.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgpipeline.sources.simulator.drawing import HEIGHT, HORIZON_Y, WIDTH, Look, random_color
from imgpipeline.sources.simulator.truth import LABELS


@dataclass(frozen=True, slots=True)
class Kind:
    """Size and speed of a class."""

    far_px: float
    """Height at the far edge of the road in px."""
    near_px: float
    """Height at the near edge of the road in px."""
    aspect: float
    """Width / height."""
    speed_px: tuple[float, float]
    """Lowest and highest speed at the near edge, px per frame; half as fast at the far edge."""


KINDS = {
    "person": Kind(52, 130, 0.42, (1.0, 2.5)),
    "bicycle": Kind(34, 76, 1.62, (2.0, 5.0)),
    "car": Kind(32, 64, 2.20, (3.0, 8.0)),
    "dog": Kind(24, 48, 1.50, (1.5, 4.0)),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """One object over a whole scene."""

    track_id: int
    """From 1."""
    label: str
    """One of `LABELS`."""
    depth: float
    """0 (far edge of the road) to 1 (near edge); the nearer object hides the farther one."""
    size_wh: tuple[float, float]
    """Width and height in px."""
    faces_left: bool
    """Moves to the left."""
    look: Look
    """Its colours."""
    phase: NDArray[np.float64]
    """[frames], radians: legs and wheels."""
    boxes_xyxy: NDArray[np.float64]
    """[frames, 4], px; may be outside the picture."""


def cast_actors(rng: np.random.Generator, frames: int, tries: int, overlap: float) -> list[Actor]:
    """Chooses the objects of a scene.

    Args:
        rng: Source of randomness.
        frames: Length of the scene.
        tries: How many objects to try; those that would hide another one too much are left out.
        overlap: Largest share of the smaller box that two objects have in common at any time, 0..1.

    Returns:
        The objects, far ones first, in the order in which they are painted.
    """
    chosen: list[Actor] = []
    for _ in range(tries):
        actor = _make_actor(rng, frames, track_id=len(chosen) + 1)
        if all(_most_in_common(actor.boxes_xyxy, other.boxes_xyxy) <= overlap for other in chosen):
            chosen.append(actor)
    return sorted(chosen, key=lambda actor: actor.depth)


def _make_actor(rng: np.random.Generator, frames: int, track_id: int) -> Actor:
    label = LABELS[rng.integers(len(LABELS))]
    kind, depth = KINDS[label], float(rng.random())
    height = (kind.far_px + (kind.near_px - kind.far_px) * depth) * rng.uniform(0.9, 1.1)
    width, faces_left = height * kind.aspect, bool(rng.random() < 0.5)
    speed = rng.uniform(*kind.speed_px) * (0.5 + 0.5 * depth) * (-1 if faces_left else 1)
    # Inside the picture at a random moment, so that some objects enter, some leave and some do both.
    moment = np.arange(frames) - rng.uniform(0, frames)
    x = rng.uniform(0, WIDTH) + speed * moment + np.cumsum(rng.normal(0, 0.25, frames))
    ground = HORIZON_Y + 20 + depth * (HEIGHT - HORIZON_Y - 24)
    bottom = ground + rng.uniform(-0.15, 0.15) * moment + rng.normal(0, 0.2, frames)
    return Actor(
        track_id=track_id,
        label=label,
        depth=depth,
        size_wh=(width, height),
        faces_left=faces_left,
        look=_choose_look(rng),
        phase=rng.uniform(0, 6.3) + 0.35 * np.arange(frames, dtype=np.float64) * rng.uniform(0.7, 1.3),
        boxes_xyxy=np.stack([x - width / 2, bottom - height, x + width / 2, bottom], axis=1),
    )


def _choose_look(rng: np.random.Generator) -> Look:
    skin, fur = rng.uniform(0.45, 1.0), rng.uniform(0.35, 1.2)
    return Look(
        main=random_color(rng, 20, 250),
        dark=random_color(rng, 15, 110),
        skin=(int(150 * skin), int(180 * skin), int(230 * skin)),
        hair=random_color(rng, 10, 70),
        fur=(int(70 * fur), int(115 * fur), int(165 * fur)),
    )


def _most_in_common(a_xyxy: NDArray[np.float64], b_xyxy: NDArray[np.float64]) -> float:
    """Returns the largest share of the smaller box that two tracks have in common in any frame."""
    common = np.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:]) - np.maximum(a_xyxy[:, :2], b_xyxy[:, :2])
    area_a, area_b = ((v[:, 2:] - v[:, :2]).prod(axis=1) for v in (a_xyxy, b_xyxy))
    return float((np.clip(common, 0, None).prod(axis=1) / np.minimum(area_a, area_b)).max())
