"""A simulated street scene: images, each with its exact truth.

The same arguments give the same JPEG bytes and the same truth, in any order of frames, with the same versions of OpenCV
and NumPy (another OpenCV may draw differently, another NumPy may choose differently).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.simulator.actors import Actor, cast_actors
from imgpipeline.sources.simulator.drawing import DRAWINGS, HEIGHT, WIDTH, Image, Placement, Sprite, draw_street
from imgpipeline.sources.simulator.truth import Truth

FIRST_TRAINING_SEED = 1_000_000
"""Seeds from here on are for training detectors; detectors never see the others in training."""
MARGIN_PX = 4
"""Free border of a patch, because strokes are wide."""
NOISE_SHIFT_PX = 64
"""Every frame uses another window of one picture of sensor noise, shifted by up to this much."""
COVERED = 127
"""A pixel belongs to an object where the mask is above this value."""


class Scene:
    """A street on which people, bicycles, cars and dogs come and go.

    Args:
        seed: Decides everything that the other arguments do not. The demo model was never trained on seeds below
            `FIRST_TRAINING_SEED`.
        frames: Length of the scene.
        hour: Hour of the day, 0..24, which decides only the light (`brightness_at`); None: the seed decides.
        objects: How many objects are tried, 0..255; a few of them find no room.
        overlap: Largest share of the smaller box that two objects have in common at any time, 0 (they never
            touch) to 1 (no limit).
        clutter: Factor on the usual number of trees, lamps, bins and signs, 0..20.

    Raises:
        ConfigurationError: An argument is out of range.
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
        _check("seed", seed, at_least=0)
        _check("frames", frames, at_least=1)
        _check("objects", objects, at_least=0, at_most=255)
        _check("overlap", overlap, at_least=0, at_most=1)
        _check("clutter", clutter, at_least=0, at_most=20)
        rng = np.random.default_rng(seed)
        chosen = float(rng.uniform(0, 24))
        self.seed = seed
        self.frames = frames
        self.hour = chosen if hour is None else hour
        _check("hour", self.hour, at_least=0, at_most=24)
        self._street = draw_street(rng, clutter)
        self._light = light_of(self.hour, frames, rng)
        self._quality = int(rng.integers(85, 91))
        size = (HEIGHT + NOISE_SHIFT_PX, WIDTH + NOISE_SHIFT_PX)
        self._noise = (rng.standard_normal(size, np.float32) * rng.uniform(1.5, 5)).astype(np.int16)
        self._actors = cast_actors(rng, frames, objects, overlap)

    def __len__(self) -> int:
        return self.frames

    def __iter__(self) -> Iterator[tuple[Image, list[Truth]]]:
        return (self.frame(number) for number in range(self.frames))

    def frame(self, number: int) -> tuple[Image, list[Truth]]:
        """Returns one image, decoded from its JPEG.

        Args:
            number: Index of the frame, 0 <= number < frames.

        Returns:
            [360, 640, 3] uint8 BGR, and all objects that are visible at least in part.

        Raises:
            ConfigurationError: There is no such frame.
        """
        jpeg, truth = self.jpeg(number)
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        return np.asarray(image, np.uint8), truth

    def jpeg(self, number: int) -> tuple[bytes, list[Truth]]:
        """Returns one image as JPEG.

        Args:
            number: Index of the frame, 0 <= number < frames.

        Returns:
            The bytes, and all objects that are visible at least in part.

        Raises:
            ConfigurationError: There is no such frame.
        """
        _check("frame number", number, at_least=0, at_most=self.frames - 1)
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
    sprite = Sprite(Placement((width, height), (left - x, top - y), actor.size_wh, actor.faces_left))
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


def _check(name: str, value: float, *, at_least: float, at_most: float = float("inf")) -> None:
    if not at_least <= value <= at_most:
        raise ConfigurationError(f"Scene: {name} is {value}, expected {at_least} to {at_most}.")


HOURS = (0.0, 5.0, 8.0, 18.0, 21.0, 24.0)
BRIGHTNESS = (0.42, 0.42, 0.98, 0.98, 0.42, 0.42)
NIGHT_TINT_BGR = (1.15, 1.0, 0.9)


def brightness_at(hour: float) -> float:
    """Returns the usual brightness of an hour: night until 5, dawn until 8, day until 18, dusk until 21.

    Args:
        hour: Hour of the day, modulo 24.

    Returns:
        Factor on the colours of full daylight, 0.42 (night) to 0.98 (day).
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
        """Returns the look-up table of one frame for `cv2.LUT`: [1, 256, 3] uint8.

        Args:
            frame: Index of the frame, from 0.
        """
        values = np.arange(256)[:, None] * (self.gain[frame] * self.tint_bgr)
        table: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
        return table[None]


def light_of(hour: float, frames: int, rng: np.random.Generator) -> Light:
    """Chooses the light of a scene: the brightness of the hour, and the weather, which differs from day to day.

    Args:
        hour: Hour of the day.
        frames: Length of the scene.
        rng: Source of randomness.

    Returns:
        The light, which drifts by at most 15 % within the scene.
    """
    usual = brightness_at(hour)
    start = usual * rng.uniform(0.82, 1.18)
    end = start * rng.uniform(0.85, 1.15)
    darkness = (BRIGHTNESS[2] - usual) / (BRIGHTNESS[2] - BRIGHTNESS[0])
    by_day = rng.uniform(0.95, 1.05, 3)
    return Light(np.linspace(start, end, frames), by_day + (np.array(NIGHT_TINT_BGR) - by_day) * darkness)
