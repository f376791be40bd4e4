"""How bright a scene is by the time of day, and the tint of the night."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOURS = (0.0, 5.0, 8.0, 18.0, 21.0, 24.0)
BRIGHTNESS = (0.42, 0.42, 0.98, 0.98, 0.42, 0.42)
NIGHT_TINT_BGR = (1.15, 1.0, 0.9)


def brightness_at(hour: float) -> float:
    """Gives the usual brightness of an hour: night until 5, dawn until 8, day until 18, dusk until 21.

    Args:
        hour: Hour of the day; 24 is added or taken away until it is in [0, 24).

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
        """Makes the look-up table of one frame.

        Args:
            frame: Index of the frame, from 0.

        Returns:
            [1, 256, 3] uint8, as `cv2.LUT` wants it.
        """
        values = np.arange(256)[:, None] * (self.gain[frame] * self.tint_bgr)
        table: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
        return table[None]


def light_of(hour: float, frames: int, rng: np.random.Generator) -> Light:
    """Chooses the light of a scene: the hour's brightness, and the weather, by which days differ.

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
