"""Patience lasts as long as something moves, and not for ever."""

from imgpipeline.demo.patience import Patience


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_it_lasts_as_long_as_something_moves():
    clock = Clock()
    patience = Patience(60.0, 10_000.0, clock)
    for sign in range(100):
        clock.now_s += 59.0
        assert patience.why_over(sign) is None


def test_it_ends_when_nothing_moves_any_more():
    clock = Clock()
    patience = Patience(60.0, 10_000.0, clock)
    assert patience.why_over("moved") is None
    clock.now_s += 59.9
    assert patience.why_over("moved") is None
    clock.now_s += 0.1
    assert patience.why_over("moved") == "there has been no progress for 60 s"


def test_it_ends_after_the_longest_time_whatever_moves():
    clock = Clock()
    patience = Patience(60.0, 100.0, clock)
    clock.now_s = 50.0
    assert patience.why_over(1) is None
    clock.now_s = 100.0
    assert patience.why_over(2) == "it has not finished after 100 s"
