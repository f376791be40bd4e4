"""Simulated days, of which the true number of objects in each frame is known."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400
STAY_S = 30.0
FALSE_ALARM_S = 120.0
MISSED_IN_A_FRAME = 0.05
KINDS = {1.1: "busy", 0.09: "quiet", 0.02: "rare"}


@dataclass(frozen=True)
class Scenario:
    """One kind of day.

    Attributes:
        rate: True objects a frame, on average over the day.
        night_loss: Share of the objects that the detector misses in a frame at night, beyond what it misses by day.
        never_detected: Share of the objects that are missed in all their frames.
        false_alarms: Objects that the detector makes up, 120 s each, relative to the true ones.
        has_gaps: Two hours and then every fourth minute have no frames.
        step_s: Seconds between two frames.
    """

    rate: float
    night_loss: float
    never_detected: float
    false_alarms: float
    has_gaps: bool
    step_s: int

    @property
    def kind(self) -> str:
        return KINDS[self.rate]

    @property
    def name(self) -> str:
        return (
            f"{self.kind}, {self.night_loss:.0%} lost at night, {self.never_detected:.0%} never detected, "
            f"{self.false_alarms:.0%} false, every {self.step_s} s{', gaps' if self.has_gaps else ''}"
        )


def scenarios() -> list[Scenario]:
    """Returns 24 kinds of days: three rates, and each of five other properties in half of them, in all pairs."""
    return [
        Scenario(
            rate=rate,
            night_loss=0.15 if is_dark else 0.0,
            never_detected=0.25 if misses else 0.08,
            false_alarms=0.1 if has_alarms else 0.0,
            has_gaps=is_dark != misses,
            step_s=20 if is_dark != has_alarms else 5,
        )
        for rate, is_dark, misses, has_alarms in product(KINDS, *[(False, True)] * 3)
    ]


@dataclass(frozen=True)
class SimulatedDay:
    """True and detected objects of each frame, in order of time."""

    true: NDArray[np.int64]
    detected: NDArray[np.int64]

    @property
    def errors(self) -> NDArray[np.int64]:
        return self.true - self.detected


def simulate(scenario: Scenario, seed: int) -> SimulatedDay:
    """Returns a day with twice as many objects at noon as on average, and none at midnight."""
    random = np.random.default_rng(seed)
    times = np.arange(0, DAY_S, scenario.step_s)
    visible = _present(random, times, scenario.rate * (1 - scenario.never_detected), STAY_S)
    hidden = _present(random, times, scenario.rate * scenario.never_detected, STAY_S)
    false = _present(random, times, scenario.rate * scenario.false_alarms, FALSE_ALARM_S)
    is_night = (times < DAY_S / 4) | (times >= DAY_S * 3 / 4)
    detected = random.binomial(visible, 1 - MISSED_IN_A_FRAME - scenario.night_loss * is_night) + false
    kept = np.ones(len(times), dtype=bool)
    if scenario.has_gaps:
        kept = ~((times >= DAY_S * 0.4) & (times < DAY_S * 0.4 + 7200)) & (times // 60 % 4 != 0)
    return SimulatedDay((visible + hidden)[kept], detected[kept])


def _present(random: np.random.Generator, times: NDArray[np.int64], rate: float, stay_s: float) -> NDArray[np.int64]:
    """Returns how many objects are there at each time, when they come at random and stay `stay_s` on average."""
    coming = random.poisson(rate * DAY_S / stay_s * 2)
    at = np.sort(random.uniform(0, DAY_S, coming))
    at = at[random.uniform(size=coming) < (1 - np.cos(2 * np.pi * at / DAY_S)) / 2]
    gone = np.sort(at + random.exponential(stay_s, len(at)))
    return np.searchsorted(at, times, side="right") - np.searchsorted(gone, times, side="right")


def seeded() -> Iterator[tuple[Scenario, SimulatedDay]]:
    """Yields each scenario with its day, which is the same at each call."""
    for number, scenario in enumerate(scenarios()):
        yield scenario, simulate(scenario, seed=number)
