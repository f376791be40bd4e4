"""The pause after a build: long enough to leave the machine to others, short enough to keep a day current."""

import pytest

from imgpipeline.defs.automation import SHORTEST_PAUSE_S, Build

ENDED_AT_S = 1_000_000.0


@pytest.mark.fault(45)
@pytest.mark.parametrize(
    ("build_s", "pause_s"),
    [(1, 60), (12, 120), (60, 180), (600, 1800)],
    ids=["short", "longer", "overloaded", "huge day"],
)
def test_fault_45_the_pause_grows_with_the_last_build_and_does_not_keep_a_day_stale(
    build_s: float, pause_s: float
) -> None:
    build = Build({}, ENDED_AT_S, build_s)
    assert not build.is_due(ENDED_AT_S + pause_s - 1, SHORTEST_PAUSE_S)
    assert build.is_due(ENDED_AT_S + pause_s, SHORTEST_PAUSE_S)
    assert build.is_due(ENDED_AT_S, shortest_pause_s=0.0)
