"""The pipeline, from Kafka and S3 to committed segments, against the bare loop over the same pictures in memory.

Both decode and detect with the same functions and the same model file; the bare loop may choose the best arrangement
of threads, the pipeline runs as its settings are by default. They take turns, A B A B A, so that whatever else the
machine does hits both.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.children import run_contender
from benchmarks.effort import Effort
from benchmarks.networks import MissingDataError, Network, nothing_seen, yolov4_tiny, yolox_nano
from benchmarks.pictures import PictureSet, make_pictures
from benchmarks.place import Place, announce_backlog, say, store_pictures
from imgpipeline.settings import Settings

Sizes = tuple[tuple[int, int], ...]
"""Widths and heights in pixels."""

_FEWEST_FRAMES = 60
_TRIAL_SHARE = 0.25
"""Part of a contest's time that each arrangement of threads is tried."""
_LINGER_S = 0.05
"""A run ends as soon as nothing is left: waiting longer for the last segment does not count towards its speed."""


@dataclass(frozen=True, slots=True)
class Contest:
    """One model and one size of pictures, ready to be measured."""

    place: Place
    """The servers."""
    network: Network
    """What looks at the pictures."""
    pictures: PictureSet
    """What is looked at."""
    settings: Settings
    """Topic and bucket with the pictures in it."""
    folder: Path
    """The same pictures as files, for the bare loop."""

    def bare(self, arrangement: tuple[int, int], frames: int) -> dict[str, Any]:
        """Measures the bare loop with some workers and threads each."""
        workers, threads = arrangement
        task = {"folder": str(self.folder), "workers": workers, "threads": threads, "frames": frames}
        return run_contender("bare", self.settings, task)

    def pipeline(self) -> dict[str, Any]:
        """Measures a run over the whole backlog."""
        settings = self.place.again(self.settings, "run")
        return run_contender("lane", settings, {"servers": self.place.server_pids()})


def measure_throughput(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures each model with each size of pictures.

    Returns:
        `contests`, one entry a model and size; `missing`, what could not be measured and why.
    """
    contests, missing = [], []
    for make, sizes in _makers(place.folder, effort):
        try:
            network = make()
        except MissingDataError as error:
            missing.append(str(error))
            say(f"throughput: left out: {error}")
            continue
        for width, height in sizes:
            contest = prepare(place, network, make_pictures(width, height, effort.pictures))
            contests.append(_measure(contest, effort))
    return {"contests": contests, "missing": missing}


def _makers(folder: Path, effort: Effort) -> list[tuple[Callable[[], Network], Sizes]]:
    """Returns what makes each network, with the sizes of pictures that it is measured with."""
    sizes = effort.sizes
    makers: list[tuple[Callable[[], Network], Sizes]] = [
        (yolox_nano, sizes),
        (lambda: yolov4_tiny(folder), sizes if effort.all_networks else ()),
        (lambda: nothing_seen(folder), sizes[:1]),
    ]
    return [(make, chosen) for make, chosen in makers if chosen]


def prepare(place: Place, network: Network, pictures: PictureSet, **more: object) -> Contest:
    """Stores the pictures, in a bucket and in a folder."""
    settings = place.settings(f"contest-{pictures.name}", linger_s=_LINGER_S, **network.settings(), **more)
    folder = place.folder / settings.kafka_topic
    folder.mkdir()
    for number, jpeg in enumerate(pictures.jpegs):
        (folder / f"{number:04d}.jpg").write_bytes(jpeg)
    return Contest(place, network, pictures, settings, folder)


def arrangements() -> list[tuple[int, int]]:
    """Returns the numbers of workers, and of inference threads each, that the bare loop tries."""
    cores = os.cpu_count() or 1
    return list(dict.fromkeys([(1, cores), (cores, 1), (cores + 1, 1)]))


def try_arrangements(contest: Contest, seconds: float) -> list[dict[str, Any]]:
    """Measures the bare loop in each arrangement of threads, for some seconds each."""
    cores = os.cpu_count() or 1
    frames = frames_for(contest.bare((cores, 1), _FEWEST_FRAMES), seconds)
    return [contest.bare(arrangement, frames) for arrangement in arrangements()]


def frames_for(measured: dict[str, Any], seconds: float) -> int:
    """Returns how many frames take some seconds at a measured rate."""
    return max(_FEWEST_FRAMES, round(float(measured["frames_per_s"]) * seconds))


def _measure(contest: Contest, effort: Effort) -> dict[str, Any]:
    what = f"throughput: {contest.network.name}, {contest.pictures.name}"
    trials = try_arrangements(contest, effort.contest_s * _TRIAL_SHARE)
    best = max(trials, key=lambda trial: float(trial["frames_per_s"]))
    arrangement = (int(best["workers"]), int(best["threads"]))
    frames = frames_for(best, effort.contest_s)
    say(f"{what}: bare loop {best['frames_per_s']:.1f} frames/s with {arrangement}; {frames} frames follow")
    announce_backlog(contest.settings, store_pictures(contest.settings, contest.pictures), frames)
    pipeline, bare = take_turns(contest.pipeline, lambda: contest.bare(arrangement, frames), effort.rounds)
    result = {
        "network": contest.network.name,
        "size": contest.pictures.name,
        "pictures": contest.pictures.origin,
        "mean_bytes": contest.pictures.mean_bytes,
        "trials": trials,
        "pipeline": pipeline,
        "bare": bare,
        **compare(pipeline, bare),
    }
    say(f"{what}: {result['our_frames_per_s']:.1f} / {result['their_frames_per_s']:.1f} = {result['ratio']:.2f}")
    return result


def take_turns(
    first: Callable[[], dict[str, Any]], second: Callable[[], dict[str, Any]], rounds: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measures two contenders in turns: A B A B A for two rounds."""
    firsts, seconds = [first()], []
    for _ in range(rounds):
        seconds.append(second())
        firsts.append(first())
    return firsts, seconds


def compare(firsts: list[dict[str, Any]], seconds: list[dict[str, Any]]) -> dict[str, Any]:
    """Compares what was measured in turns: each measurement with its neighbours in time.

    Returns:
        Medians of both, the median ratio with the least and the greatest, and the ratio of CPU seconds a frame (second
        by first: above 1 the first one is cheaper).
    """
    rates = [float(m["frames_per_s"]) for m in _alternate(firsts, seconds)]
    costs = [float(m["cpu_ms_a_frame"]) for m in _alternate(firsts, seconds)]
    ratios = [_by(pair, index) for index, pair in enumerate(pairwise(rates))]
    cpu_ratios = [1 / _by(pair, index) for index, pair in enumerate(pairwise(costs))]
    return {
        "our_frames_per_s": median(rates[::2]),
        "their_frames_per_s": median(rates[1::2]),
        "ratio": median(ratios),
        "ratio_least": min(ratios),
        "ratio_greatest": max(ratios),
        "cpu_ratio": median(cpu_ratios),
    }


def _alternate(firsts: list[dict[str, Any]], seconds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [(firsts, seconds)[index % 2][index // 2] for index in range(len(firsts) + len(seconds))]


def _by(pair: tuple[float, float], index: int) -> float:
    """Divides the first contender's figure by the second's: neighbours come in either order."""
    return pair[0] / pair[1] if index % 2 == 0 else pair[1] / pair[0]
