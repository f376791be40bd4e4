"""How the benchmarks make figures of what they measured."""

import pytest

from benchmarks.rounds import take_turns


def test_contenders_take_turns_and_every_second_round_is_reversed():
    order: list[str] = []

    def contender(name: str) -> dict[str, int]:
        order.append(name)
        return {"rate": len(order)}

    rounds = take_turns({"A": lambda: contender("A"), "B": lambda: contender("B")}, 3)

    assert order == ["A", "B", "B", "A", "A", "B"]
    assert rounds.median("A", "rate") == 4


def test_a_ratio_compares_the_turns_of_one_round():
    """The machine becomes twice as slow in the middle: the ratio does not."""
    rates = {"ours": iter((90, 45, 45)), "theirs": iter((100, 50, 45))}
    contenders = {name: lambda values=values: {"rate": next(values)} for name, values in rates.items()}

    ratio = take_turns(contenders, 3).ratio("ours", "theirs", "rate")

    assert (ratio.median, ratio.least, ratio.greatest) == (pytest.approx(0.9), pytest.approx(0.9), 1)
    assert ratio.spread == "0.90 to 1.00"
