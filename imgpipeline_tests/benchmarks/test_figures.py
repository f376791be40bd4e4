"""How the benchmarks make figures of what they measured."""

import os
import time

import pytest

from benchmarks.material import make_pictures, null_network
from benchmarks.memory import growth_mib, rss_at
from benchmarks.processes import cpu_s, peak_rss_mib, rss_mib, session_costs
from benchmarks.rounds import spread, take_turns
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.detector import load_detector


def test_contenders_take_turns_and_every_second_round_is_reversed() -> None:
    order: list[str] = []

    def contender(name: str) -> dict[str, int]:
        order.append(name)
        return {"rate": len(order)}

    rounds = take_turns({"A": lambda: contender("A"), "B": lambda: contender("B")}, 3)

    assert order == ["A", "B", "B", "A", "A", "B"]
    assert rounds.median("A", "rate") == 4


def test_a_ratio_compares_the_turns_of_one_round() -> None:
    """The machine becomes twice as slow in the middle: the ratio does not."""
    rates = {"ours": iter((90, 45, 45)), "theirs": iter((100, 50, 45))}
    contenders = {name: lambda values=values: {"rate": next(values)} for name, values in rates.items()}

    ratio = take_turns(contenders, 3).ratio("ours", "theirs", "rate")

    assert (ratio.median, ratio.least, ratio.greatest) == (pytest.approx(0.9), pytest.approx(0.9), 1)
    assert ratio.spread == "0.90 to 1.00"


def test_memory_grows_from_the_first_tenth_on() -> None:
    samples = [(100, 50.0), (1_000, 150.0), (5_000, 180.0), (10_000, 170.0)]

    assert growth_mib(samples, 10_000) == 30.0
    assert [rss_at(samples, frames) for frames in (1_000, 1_001, 10_000)] == [150.0, 180.0, 170.0]


def test_percentiles_of_one_value_are_that_value() -> None:
    assert spread([2.0]) == {"count": 1, "p50_s": 2.0, "p95_s": 2.0, "longest_s": 2.0}


def test_a_process_knows_what_it_cost() -> None:
    before_s = cpu_s(os.getpid())
    began_s = time.process_time()
    while time.process_time() - began_s < 0.1:
        pass

    assert 0.05 < cpu_s(os.getpid()) - before_s < 5
    assert sum(session_costs(os.getsid(0), {"pytest": "tests"}).values()) >= cpu_s(os.getpid()) * 0.9
    assert 10 < rss_mib() <= peak_rss_mib()


def test_the_null_network_sees_nothing(tmp_path) -> None:
    network = null_network(tmp_path)
    pictures = make_pictures(160, 90, 3)
    detector = load_detector(network.path, decoder="yolox", threads=1)

    assert len(set(pictures)) == 3
    assert detector.detect(decode_image(pictures[0], ImageLimits(10**6, 10**6))) == []
