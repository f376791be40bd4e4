"""A simulated street scene: images, each with its exact truth.

The same arguments give the same JPEG bytes and the same truth, in any order of frames, with the same versions of OpenCV
and NumPy (another OpenCV may draw differently, another NumPy may choose differently).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imgpipeline.sources.simulator.drawing import (
    DRAWINGS,
    HEIGHT,
    HORIZON_Y,
    WIDTH,
    Image,
    Look,
    Sprite,
    SpritePlacement,
    draw_street,
    random_color,
)
from imgpipeline.sources.simulator.truth import LABELS, Truth

FIRST_TRAINING_SEED = 1_000_000
"""Seeds from here on are for training detectors; detectors never see the others in training."""
MARGIN_PX = 4
"""Free border of a patch, because strokes are wide."""
NOISE_SHIFT_PX = 64
"""Every frame uses another window of one picture of sensor noise, shifted by up to this much."""
COVERED = 127
"""A pixel belongs to an object where the mask is above this value."""


@dataclass(frozen=True, slots=True)
class ActorKind:
    """Size and speed of a class."""

    far_px: float
    """Height at the far edge of the road in px."""
    near_px: float
    """Height at the near edge of the road in px."""
    aspect: float
    speed_px: tuple[float, float]
    """Lowest and highest speed at the near edge, px per frame; half as fast at the far edge."""


KINDS = {
    "person": ActorKind(52, 130, 0.42, (1.0, 2.5)),
    "bicycle": ActorKind(34, 76, 1.62, (2.0, 5.0)),
    "car": ActorKind(32, 64, 2.20, (3.0, 8.0)),
    "dog": ActorKind(24, 48, 1.50, (1.5, 4.0)),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """One object over a whole scene."""

    track_id: int
    label: str
    depth: float
    """0 (far edge of the road) to 1 (near edge); the nearer object hides the farther one."""
    size_wh: tuple[float, float]
    faces_left: bool
    look: Look
    phase: NDArray[np.float64]
    """[frames], radians: legs and wheels."""
    boxes_xyxy: NDArray[np.float64]
    """[frames, 4], px; may be outside the picture."""


class Scene:
    """A street on which people, bicycles, cars and dogs come and go.

    Args:
        seed: Decides everything that the other arguments do not. The demo model was never trained on seeds below
            `FIRST_TRAINING_SEED`.
        hour: Hour of the day, 0..24, which decides only the light (`brightness_at`); None: the seed decides.
        objects: How many objects are tried, 0..255; a few of them find no room.
        overlap: Largest share of the smaller box that two objects have in common at any time, 0 (they never
            touch) to 1 (no limit).
        clutter: Factor on the usual number of trees, lamps, bins and signs, 0..20.
    """

    def __init__(
        self,
        seed: int,
        *,
        frames: int = 50,
        hour: float | None = None,
        objects: int = 9,
        overlap: float = 0.35,
        clutter: int = 1,
    ) -> None:
        rng = np.random.default_rng(seed)
        chosen = float(rng.uniform(0, 24))
        self.seed = seed
        self.frames = frames
        self.hour = chosen if hour is None else hour
        self._street = draw_street(rng, clutter)
        self._light = light_of(self.hour, frames, rng)
        self._quality = int(rng.integers(85, 91))
        size = (HEIGHT + NOISE_SHIFT_PX, WIDTH + NOISE_SHIFT_PX)
        self._noise = (rng.standard_normal(size, np.float32) * rng.uniform(1.5, 5)).astype(np.int16)
        self._actors = _cast_actors(rng, frames, objects, overlap)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[tuple[Image, list[Truth]]]:
        return (self.frame(number) for number in range(self.frames))

    def frame(self, number: int) -> tuple[Image, list[Truth]]:
        """Returns one image, decoded from its JPEG.

        Returns:
            [360, 640, 3] uint8 BGR, and all objects that are visible at least in part.
        """
        jpeg, truth = self.jpeg(number)
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        return np.asarray(image, np.uint8), truth

    def jpeg(self, number: int) -> tuple[bytes, list[Truth]]:
        """Returns one image as JPEG, and all objects that are visible at least in part."""
        image, owner = self._street.copy(), np.zeros((HEIGHT, WIDTH), np.uint8)
        whole_px = {actor.track_id: _paint(image, owner, actor, number) for actor in self._actors}
        lit = cv2.LUT(image, self._light.table(number))
        dx, dy = np.random.default_rng((self.seed, number)).integers(0, NOISE_SHIFT_PX, 2)
        noise = self._noise[dy : dy + HEIGHT, dx : dx + WIDTH]
        noisy = cv2.add(lit, cv2.merge([noise] * 3), dtype=cv2.CV_8U)
        encoded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1].tobytes()
        return encoded, _truths(owner, self._actors, whole_px)


def _paint(image: Image, owner: NDArray[np.uint8], actor: Actor, number: int) -> int:
    """Paints an object into the picture, and its track id into `owner`; returns its pixel count with hidden pixels."""
    left, top, right, bottom = actor.boxes_xyxy[number]
    x, y = int(np.floor(left)) - MARGIN_PX, int(np.floor(top)) - MARGIN_PX
    width, height = int(np.ceil(right)) + MARGIN_PX - x, int(np.ceil(bottom)) + MARGIN_PX - y
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + width, WIDTH), min(y + height, HEIGHT)
    if x1 >= x2 or y1 >= y2:
        return 0
    sprite = Sprite(SpritePlacement((width, height), (left - x, top - y), actor.size_wh, actor.faces_left))
    DRAWINGS[actor.label](sprite, actor.look, float(actor.phase[number]))
    color, mask = sprite.finish()
    seen = np.s_[y1 - y : y2 - y, x1 - x : x2 - x]
    target, alpha = image[y1:y2, x1:x2], mask[seen][..., None].astype(np.float32) / 255
    target[:] = target * (1 - alpha) + color[seen]
    owner[y1:y2, x1:x2][mask[seen] > COVERED] = actor.track_id
    return int(np.count_nonzero(mask > COVERED))


def _truths(owner: NDArray[np.uint8], actors: list[Actor], whole_px: dict[int, int]) -> list[Truth]:
    truths = []
    for actor in actors:
        seen = (owner == actor.track_id).view(np.uint8)
        count = int(np.count_nonzero(seen))
        if count:
            x, y, w, h = cv2.boundingRect(seen)
            visible = round(count / whole_px[actor.track_id], 4)
            truths.append(Truth((x, y, x + w, y + h), actor.label, actor.track_id, visible))
    return truths


HOURS = (0.0, 5.0, 8.0, 18.0, 21.0, 24.0)
BRIGHTNESS = (0.42, 0.42, 0.98, 0.98, 0.42, 0.42)
NIGHT_TINT_BGR = (1.15, 1.0, 0.9)


def brightness_at(hour: float) -> float:
    """Returns the usual brightness of an hour: night until 5, dawn until 8, day until 18, dusk until 21.

    It is a factor on the colours of full daylight, 0.42 (night) to 0.98 (day).
    """
    return float(np.interp(hour % 24, HOURS, BRIGHTNESS))


@dataclass(frozen=True, slots=True)
class Light:
    """The light of one scene."""

    gain: NDArray[np.float64]
    """[frames], factor on all colours in that frame, about 0.3..1.3."""
    tint_bgr: NDArray[np.float64]
    """[3], factor on blue, green and red, 0.9..1.15."""

    def table(self, frame: int) -> NDArray[np.uint8]:
        """Returns the look-up table of one frame for `cv2.LUT`: [1, 256, 3] uint8."""
        values = np.arange(256)[:, None] * (self.gain[frame] * self.tint_bgr)
        table: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
        return table[None]


def light_of(hour: float, frames: int, rng: np.random.Generator) -> Light:
    """Chooses the light of a scene: the brightness of the hour, and the weather, which differs from day to day.

    The light drifts by at most 15 % within the scene.
    """
    usual = brightness_at(hour)
    start = usual * rng.uniform(0.82, 1.18)
    end = start * rng.uniform(0.85, 1.15)
    darkness = (BRIGHTNESS[2] - usual) / (BRIGHTNESS[2] - BRIGHTNESS[0])
    by_day = rng.uniform(0.95, 1.05, 3)
    return Light(np.linspace(start, end, frames), by_day + (np.array(NIGHT_TINT_BGR) - by_day) * darkness)


def _cast_actors(rng: np.random.Generator, frames: int, tries: int, overlap: float) -> list[Actor]:
    """Returns the objects of a scene, far ones first, in the order in which they are painted.

    They enter, cross and leave the street. Objects that would hide another one too much are left out.
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
