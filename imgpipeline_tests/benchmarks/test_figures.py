"""How the benchmarks make figures of what they measured."""

import os
import time

import pytest

from benchmarks.latency import spread
from benchmarks.memory import growth_mib, rss_at
from benchmarks.networks import nothing_seen
from benchmarks.pictures import make_pictures
from benchmarks.processes import cpu_s, peak_rss_mib, rss_mib, session_cpu_s
from benchmarks.table import Table
from benchmarks.throughput import compare, take_turns
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.detector import load_detector


def measured(rate: float, cost: float) -> dict[str, float]:
    return {"frames_per_s": rate, "cpu_ms_a_frame": cost}


def test_contenders_take_turns_and_the_first_one_ends() -> None:
    order: list[str] = []

    def contender(name: str) -> dict[str, str]:
        order.append(name)
        return {"name": name}

    firsts, seconds = take_turns(lambda: contender("A"), lambda: contender("B"), 2)

    assert order == ["A", "B", "A", "B", "A"]
    assert (len(firsts), len(seconds)) == (3, 2)


def test_a_ratio_compares_neighbours_in_time() -> None:
    """The machine becomes twice as slow in the middle: the ratio does not."""
    compared = compare([measured(90, 11), measured(90, 11), measured(45, 22)], [measured(100, 10), measured(50, 20)])

    assert compared["ratio"] == pytest.approx(0.9)
    assert (compared["ratio_least"], compared["ratio_greatest"]) == (pytest.approx(0.9), pytest.approx(1.8))
    assert compared["our_frames_per_s"] == 90


def test_ratios_of_a_steady_machine_are_the_same_everywhere() -> None:
    compared = compare([measured(90, 11)] * 3, [measured(100, 10)] * 2)

    assert compared["ratio"] == compared["ratio_least"] == compared["ratio_greatest"] == pytest.approx(0.9)
    assert compared["cpu_ratio"] == pytest.approx(10 / 11)


def test_memory_grows_from_the_first_tenth_on() -> None:
    samples = [(100, 50.0), (1_000, 150.0), (5_000, 180.0), (10_000, 170.0)]

    assert growth_mib(samples, 10_000) == 30.0
    assert [rss_at(samples, frames) for frames in (1_000, 1_001, 10_000)] == [150.0, 180.0, 170.0]


def test_percentiles_of_one_value_are_that_value() -> None:
    assert spread([2.0]) == {"count": 1, "p50_s": 2.0, "p95_s": 2.0, "longest_s": 2.0}


def test_a_table_is_aligned_markdown() -> None:
    assert Table(("a", "b"), (("long", "x"),), "Said:").render().splitlines() == [
        *("Said:", "", "| a    | b |", "|------|---|", "| long | x |"),
    ]


def test_a_process_knows_what_it_cost() -> None:
    before_s = cpu_s(os.getpid())
    began_s = time.process_time()
    while time.process_time() - began_s < 0.1:
        pass

    assert 0.05 < cpu_s(os.getpid()) - before_s < 5
    assert session_cpu_s(os.getsid(0)) >= cpu_s(os.getpid()) * 0.9
    assert 10 < rss_mib() <= peak_rss_mib()


def test_the_null_network_sees_nothing(tmp_path) -> None:
    network = nothing_seen(tmp_path)
    pictures = make_pictures(160, 90, 3)
    detector = load_detector(network.path, decoder="yolox", threads=1)

    assert len(set(pictures.jpegs)) == 3
    assert detector.detect(decode_image(pictures.jpegs[0], ImageLimits(10**6, 10**6))) == []
