"""The whole pipeline beside older checkouts: throughput, latency and memory, in turns.

Each checkout reads, detects and commits with its own code, and its own query session is asked for the frames. The
checkouts share backlogs, pictures and minutes, so that ratios hold on a busy machine.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.children import REPOSITORY, run_contender
from benchmarks.effort import Effort
from benchmarks.latency import prepare_steady, spread, usual_network, watch_steady
from benchmarks.machine import commit_of
from benchmarks.memory import prepare_backlog, watch_memory
from benchmarks.networks import Network, nothing_seen
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, announce_backlog, say, store_pictures
from benchmarks.throughput import prepare

Figures = Mapping[str, float]
"""What one checkout did in one round, by name."""
Work = Callable[[Path], Figures]
"""Lets a checkout do its work once."""

_NULL_PER_S, _USUAL_PER_S = 700, 100
"""Frames per second of the null network and of the usual one, about: they size the backlogs."""
_SHORTEST_S, _FEWEST_MESSAGES = 10.0, 4_000
"""Latencies and memory of less say nothing."""
_THROUGHPUT = ("frames_per_s", "cpu_ms_a_frame", "kafka_cpu_ms_a_frame", "s3_cpu_ms_a_frame", "peak_rss_mib")
_LATENCY = ("p50_s", "p95_s", "longest_s")
_MEMORY = ("peak_rss_mib", "growth_mib")


def measure_pipeline(place: Place, effort: Effort, before: Sequence[Path]) -> dict[str, Any]:
    """Measures this checkout and older ones in turns.

    Args:
        place: The servers.
        effort: How long each piece of work takes, and how many rounds there are.
        before: Folders of older checkouts, oldest first; each with a `.venv` of its own, or it runs with this one's
            packages.

    Returns:
        The commits, oldest first; for each piece of work the figures of each checkout, one value per round.
    """
    checkouts = [*before, REPOSITORY]
    works = {
        "YOLOX-nano": _throughput(place, effort, usual_network(), _USUAL_PER_S),
        "null network": _throughput(place, effort, nothing_seen(place.folder), _NULL_PER_S),
        "steady": _latency(place, effort),
        "memory": _memory(place, effort),
    }
    return {
        "commits": [commit_of(checkout) for checkout in checkouts],
        "works": {name: _take_turns(name, work, checkouts, effort.pipeline_rounds) for name, work in works.items()},
    }


def _take_turns(name: str, work: Work, checkouts: Sequence[Path], rounds: int) -> list[dict[str, list[float]]]:
    """Lets all checkouts work in each round; every second round begins with the newest one."""
    measured: list[list[Figures]] = [[] for _ in checkouts]
    for number in range(rounds):
        turns = list(zip(checkouts, measured, strict=True))
        for checkout, figures in reversed(turns) if number % 2 else turns:
            figures.append(work(checkout))
            told = ", ".join(f"{figure} {value:.2f}" for figure, value in figures[-1].items())
            say(f"pipeline: {name} by {commit_of(checkout)}: {told}")
    return [{figure: [each[figure] for each in figures] for figure in figures[0]} for figures in measured]


def _throughput(place: Place, effort: Effort, network: Network, frames_per_s: float) -> Work:
    contest = prepare(place, network, make_pictures(*effort.sizes[0], effort.pictures))
    urls = store_pictures(contest.settings, contest.pictures)
    announce_backlog(contest.settings, urls, round(effort.contest_s * frames_per_s))

    def work(checkout: Path) -> Figures:
        found = run_contender(
            "lane", place.again(contest.settings, "run"), {"servers": place.server_pids()}, checkout=checkout
        )  # fmt: skip
        return {name: float(found[name]) for name in _THROUGHPUT}

    return work


def _latency(place: Place, effort: Effort) -> Work:
    network = usual_network()

    def work(checkout: Path) -> Figures:
        settings, urls = prepare_steady(place, network, effort)
        latencies_s, _ = watch_steady(
            place.folder, settings, urls, max(_SHORTEST_S, effort.steady_s / 2), checkout=checkout
        )
        found = spread(latencies_s)
        return {name: found[name] for name in _LATENCY}

    return work


def _memory(place: Place, effort: Effort) -> Work:
    total = max(_FEWEST_MESSAGES, effort.memory_messages // 10)
    backlog = prepare_backlog(place, effort, total)

    def work(checkout: Path) -> Figures:
        found = watch_memory(place.again(backlog, "run"), total, checkout=checkout)
        return {name: float(found[name]) for name in _MEMORY}

    return work
