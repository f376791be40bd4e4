"""The table of docs/accuracy.md that shows how often intervals contain the truth."""

from collections.abc import Iterator, Sequence

import numpy as np

from imgpipeline_tests.accuracy.coverage import Drawn, draw_by_count, draw_by_runs, draw_consecutive, draw_prefix
from imgpipeline_tests.accuracy.days import Scenario, SimulatedDay, seeded

SAMPLES = (120, 240, 480)
HEADER = (
    "day",
    "lost at night",
    "never detected",
    "false",
    "a frame in",
    "gaps",
    "detector",
    *(f"n = {samples}" for samples in SAMPLES),
    "240 of 480 answered",
    "240 consecutive",
    "240 by count",
)


def coverage_table() -> Iterator[str]:
    """Yields the lines: a scenario each, with the coverage and the width of the intervals of several ways to draw."""
    yield _line(HEADER)
    yield _line(["---"] * len(HEADER))
    for seed, (scenario, day) in enumerate(seeded()):
        by_runs = [_cell(day, draw_by_runs(day, samples, seed)) for samples in SAMPLES]
        others = (draw_prefix(day, 480, 240, seed), draw_consecutive(day, 240, seed), draw_by_count(day, 240, seed))
        coverages = [f"{drawn.coverage(day):.3f}" for drawn in others]
        yield _line([*_description(scenario), _detector(day), *by_runs, *coverages])


def _description(scenario: Scenario) -> list[str]:
    shares = (scenario.night_loss, scenario.never_detected, scenario.false_alarms)
    gaps = "yes" if scenario.has_gaps else "no"
    return [scenario.kind, *(f"{share:.0%}" for share in shares), f"{scenario.step_s} s", gaps]


def _detector(day: SimulatedDay) -> str:
    """Returns the error of the detector's count of the day."""
    return f"{day.detected.sum() / day.true.sum() - 1:+.0%}"


def _cell(day: SimulatedDay, drawn: Drawn) -> str:
    """Returns coverage and width, or a dash where fewer than half of the draws have an interval."""
    if np.mean(drawn.is_published) < 0.5:
        return "—"
    return f"{drawn.coverage(day):.3f}, ±{drawn.width(day):.0%}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
