"""The pipeline, from Kafka and S3 to committed segments, compared with the bare loop over the same pictures in memory.

Both decode and detect with the same functions and the same model file; the bare loop may choose the best arrangement
of threads, the pipeline runs with its default settings.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.children import run_contender
from benchmarks.material import MissingDataError, Network, make_pictures, null_network, yolov4_tiny, yolox_nano
from benchmarks.place import REPOSITORY, Effort, Place, announce_backlog, say, store_pictures
from benchmarks.report import Table, at_least, left_out
from benchmarks.rounds import Figures, Rounds, take_turns
from imgpipeline.settings import Settings

_FEWEST_FRAMES = 60
_TRIAL_SHARE = 0.25
"""Part of a contest's time that each arrangement of threads is tried."""
_LINGER_S = 0.05
"""A run ends as soon as nothing is left: waiting longer for the last segment does not count towards its speed."""
_GOAL = 0.9
BARE = "bare loop"


@dataclass(frozen=True, slots=True)
class Contest:
    """One model and one size of pictures, ready to be measured."""

    place: Place
    name: str
    """Model and size of the pictures."""
    settings: Settings
    """Topic and bucket with the pictures in it."""
    folder: Path
    """The same pictures as files, for the bare loop."""
    urls: list[str]
    """The pictures in the bucket."""

    def bare(self, arrangement: tuple[int, int], frames: int) -> Figures:
        """Measures the bare loop with some workers and threads each."""
        workers, threads = arrangement
        task = {"folder": str(self.folder), "workers": workers, "threads": threads, "frames": frames}
        return run_contender("bare", self.settings, task)

    def run(self, checkout: Path = REPOSITORY, **changes: object) -> Figures:
        """Measures a run over the whole backlog, with the code of a checkout and other settings where given."""
        settings = self.place.again(self.settings.model_copy(update=changes), "run")
        return run_contender("lane", settings, {"servers": self.place.server_pids()}, checkout=checkout)

    def best_bare(self, seconds: float) -> tuple[tuple[int, int], float]:
        """Tries the bare loop for some seconds in each arrangement of workers and threads.

        Returns:
            The fastest arrangement, and its frames per second.
        """
        cores = os.cpu_count() or 1
        frames = frames_for(self.bare((cores, 1), _FEWEST_FRAMES)["frames_per_s"], seconds)
        tried = {one: self.bare(one, frames)["frames_per_s"] for one in {(1, cores), (cores, 1), (cores + 1, 1)}}
        best = max(tried, key=lambda one: float(tried[one]))
        return best, float(tried[best])


def frames_for(frames_per_s: float, seconds: float) -> int:
    """Returns how many frames take some seconds at a measured rate."""
    return max(_FEWEST_FRAMES, round(frames_per_s * seconds))


def prepare(place: Place, network: Network, size: tuple[int, int], pictures: int) -> Contest:
    """Stores pictures, in a bucket and in a folder."""
    jpegs = make_pictures(*size, pictures)
    settings = place.settings("contest", linger_s=_LINGER_S, **network.settings())
    folder = place.folder / settings.kafka_topic
    folder.mkdir()
    for number, jpeg in enumerate(jpegs):
        (folder / f"{number:04d}.jpg").write_bytes(jpeg)
    urls = store_pictures(settings, jpegs)
    return Contest(place, f"{network.name}, {size[0]}x{size[1]}", settings, folder, urls)


def measure_throughput(place: Place, effort: Effort) -> list[Table]:
    """Measures each model with each size of pictures, and each checkout.

    Returns:
        Speed, and what a frame costs.
    """
    sizes = effort.of(((640, 360), (1280, 720)), ((640, 360),))
    makers: list[tuple[Callable[[], Network], tuple[tuple[int, int], ...]]] = [
        (yolox_nano, sizes),
        (lambda: yolov4_tiny(place.folder), effort.of(sizes, ())),
        (lambda: null_network(place.folder), sizes[:1]),
    ]
    found: dict[str, tuple[Rounds, str]] = {}
    missing = []
    for make, chosen in makers:
        try:
            contests = [prepare(place, make(), size, effort.of(265, 60)) for size in chosen]
            found |= {contest.name: _measure(contest, effort) for contest in contests}
        except MissingDataError as error:
            missing.append(str(error))
    return [_speeds(found), _costs(found), *left_out(missing)]


def _measure(contest: Contest, effort: Effort) -> tuple[Rounds, str]:
    seconds = effort.of(10.0, 2.0)
    arrangement, rate = contest.best_bare(seconds * _TRIAL_SHARE)
    frames = frames_for(rate, seconds)
    say(f"throughput: {contest.name}: {frames} frames")
    announce_backlog(contest.settings, contest.urls, frames)
    contenders: dict[str, Callable[[], Figures]] = {
        name: partial(contest.run, checkout) for name, checkout in effort.checkouts.items()
    }
    contenders[BARE] = lambda: contest.bare(arrangement, frames)
    return take_turns(contenders, effort.of(3, 1), shown="frames_per_s"), f"{arrangement[0]} x {arrangement[1]}"


def _speeds(found: Mapping[str, tuple[Rounds, str]]) -> Table:
    columns = ("model, pictures", "checkout", "run, frames/s", "bare loop, frames/s", "ratio", "least to greatest",
               "goal", "CPU ratio")  # fmt: skip
    rows = []
    for name, (rounds, arrangement) in found.items():
        for checkout in _runs(rounds):
            ratio = rounds.ratio(checkout, BARE, "frames_per_s")
            rows.append((
                name, checkout, f"{rounds.median(checkout, 'frames_per_s'):.1f}",
                f"{rounds.median(BARE, 'frames_per_s'):.1f} ({arrangement})", f"{ratio.median:.2f}", ratio.spread,
                "none" if name.startswith("null") else at_least(ratio.median, _GOAL),
                f"{rounds.ratio(BARE, checkout, 'cpu_ms_a_frame').median:.2f}",
            ))  # fmt: skip
    return Table(columns, rows)


def _costs(found: Mapping[str, tuple[Rounds, str]]) -> Table:
    columns = ("CPU ms a frame", "checkout", "run", "bare loop", "Kafka", "S3 server", "peak MiB of the run")
    rows = []
    for name, (rounds, _) in found.items():
        for checkout in _runs(rounds):
            costs = [rounds.median(checkout, f"{who}cpu_ms_a_frame") for who in ("", "kafka_", "s3_")]
            costs.insert(1, rounds.median(BARE, "cpu_ms_a_frame"))
            peak = f"{rounds.median(checkout, 'peak_rss_mib'):.0f}"
            rows.append((name, checkout, *(f"{cost:.2f}" for cost in costs), peak))
    return Table(columns, rows, "What a frame costs:")


def _runs(rounds: Rounds) -> list[str]:
    return [name for name in rounds.figures if name != BARE]
