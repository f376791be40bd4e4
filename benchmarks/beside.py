"""A backlog that Dagster works off as shipped, beside its own processes and the builds, and the bare loop alone.

`throughput` measures a run alone. Here `dagster dev` finds the backlog, starts the run, and builds the day's tables
while the run commits: webserver, daemon, code location, builds, Kafka and S3 have the same cores.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.children import REPOSITORY
from benchmarks.effort import Effort
from benchmarks.idle import CODE_SERVER, PARTS, Dev, dagster_dev
from benchmarks.machine import commit_of
from benchmarks.networks import MissingDataError, Network, yolov4_tiny, yolox_nano
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, announce_backlog, say, server_cost, store_pictures
from benchmarks.processes import Cost, cpu_s, finished_children_cpu_s, session_costs, session_processes
from benchmarks.table import Table, at_least
from benchmarks.throughput import Contest, frames_for, prepare, try_arrangements
from imgpipeline.ledger import fix_ends
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.servers.waiting import wait_until

_START_LIMIT_S = 180.0
_SLOWEST_PER_S = 5
_BARE_S = 30.0
_LOOK_S = 2.0
_LINGER_S = 10.0
"""The run's CPU seconds are read up to `_LOOK_S` after its last commit; it must not have ended by then."""
_GOAL = 0.85
_RUN, _BUILDS = "detection run", "builds"
_PARTS: Mapping[str, str] = {**PARTS, "spawn_main": _BUILDS}
"""As in `idle`. The code location starts the process of each run by `multiprocessing`."""


def measure_beside(place: Place, effort: Effort, before: Sequence[Path] = ()) -> dict[str, Any]:
    """Measures Dagster with a backlog and the bare loop, in turns.

    Args:
        place: The servers.
        effort: How long, and how often.
        before: Folders of older checkouts, measured in the same turns.

    Returns:
        `contests`, one entry a network: for each checkout, oldest first, its commit, the rounds with frames/s, ratio,
        builds and cores by process, and the median ratio. `missing`: which networks were not there.
    """
    contests, missing = [], []
    for make in (yolox_nano, lambda: yolov4_tiny(place.folder)):
        try:
            contests.append(_measure(place, effort, make(), [*before, REPOSITORY]))
        except MissingDataError as error:
            missing.append(str(error))
            say(f"beside: left out: {error}")
    return {"contests": contests, "missing": missing}


def _measure(place: Place, effort: Effort, network: Network, checkouts: Sequence[Path]) -> dict[str, Any]:
    contest = prepare(place, network, make_pictures(640, 360, effort.pictures))
    trials = try_arrangements(contest, min(effort.beside_s, _BARE_S) / 4)
    best = max(trials, key=lambda trial: float(trial["frames_per_s"]))
    arrangement, frames = (int(best["workers"]), int(best["threads"])), frames_for(best, effort.beside_s)
    bare_frames = frames_for(best, min(effort.beside_s, _BARE_S))
    announce_backlog(contest.settings, store_pictures(contest.settings, contest.pictures), frames)
    rounds: list[list[dict[str, Any]]] = [[] for _ in checkouts]
    bare = [float(contest.bare(arrangement, bare_frames)["frames_per_s"])]
    for _ in range(effort.beside_rounds):
        for checkout, told in zip(checkouts, rounds, strict=True):
            one = _work_off(contest, frames, checkout)
            bare.append(float(contest.bare(arrangement, bare_frames)["frames_per_s"]))
            one |= {"bare_frames_per_s": mean(bare[-2:]), "ratio": one["frames_per_s"] / mean(bare[-2:])}
            told.append(one)
            found = f"{one['frames_per_s']:.1f} frames/s, ratio {one['ratio']:.2f}"
            say(f"beside, {network.name}, {commit_of(checkout)}: {found}")
    return {
        "network": network.name,
        "frames": frames,
        "checkouts": [
            {"commit": commit_of(checkout), "rounds": told, "ratio": median(one["ratio"] for one in told)}
            for checkout, told in zip(checkouts, rounds, strict=True)
        ],
    }


def beside_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the tables: speed, and who had the cores.

    Args:
        part: As `measure_beside` returned it.
    """
    speeds: list[tuple[str, ...]] = []
    cores: dict[str, list[Mapping[str, float]]] = {}
    for contest in part["contests"]:
        network = contest["network"]
        names = [*(f"commit {one['commit']}" for one in contest["checkouts"][:-1]), "this commit"]
        for name, one in zip(names, contest["checkouts"], strict=True):
            speeds.append((network, name, *_speed(one)))
            shares = {
                process: median(each["cores"][process] for each in one["rounds"])
                for process in one["rounds"][0]["cores"]
            }
            cores.setdefault(f"{network}, {name}", []).append(shares)
    columns = ("model", "checkout", "frames/s", "bare loop alone, frames/s", "ratio", "least to greatest", "goal",
               "builds")  # fmt: skip
    names = list(cores)
    processes = list(next(iter(cores.values()))[0]) if cores else []
    shared = tuple((process, *(f"{cores[name][0][process]:.2f}" for name in names)) for process in processes)
    return [Table(columns, tuple(speeds)), Table(("cores in use, on average", *names), shared)]


def _speed(measured: Mapping[str, Any]) -> tuple[str, ...]:
    rounds = measured["rounds"]
    ratios = [each["ratio"] for each in rounds]
    rates = (median(each[figure] for each in rounds) for figure in ("frames_per_s", "bare_frames_per_s"))
    builds = median(each["builds"] for each in rounds)
    return (
        *(f"{rate:.1f}" for rate in rates),
        f"{measured['ratio']:.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        at_least(measured["ratio"], _GOAL),
        f"{builds:g}",
    )


def _work_off(contest: Contest, frames: int, checkout: Path) -> dict[str, Any]:
    """Lets a fresh `dagster dev` work off the backlog; the rate counts from the first commit that is seen to the last.

    The moments of both are in the ledger, so it is read rarely: ten times a second cost a twentieth of the two cores.
    """
    place, settings = contest.place, contest.place.again(contest.settings, "beside")
    settings = settings.model_copy(update={"linger_s": _LINGER_S})
    store = open_store(settings)
    with dagster_dev(place, settings, checkout) as dev:
        first = _await_frames(store, 1, limit_s=_START_LIMIT_S)
        # Builds start after the first commit, so the oldest process of a run is the detection run.
        run = min(pid for pid, part in session_processes(dev.server.pid, _PARTS).items() if part == _BUILDS)
        began_s, before = time.time(), _costs(dev, place, run)
        last = _await_frames(store, frames, limit_s=frames / _SLOWEST_PER_S)
        after = _costs(dev, place, run)
        builds = sum(run.dagster_run.job_name != "detect_frames" for run in dev.site.runs())
    rate = (last.frames - first.frames) / (last.at_s - first.at_s)
    cores = {process: (after[process] - before[process]) / (last.at_s - began_s) for process in after}
    return {"frames_per_s": rate, "builds": builds, "cores": cores}


@dataclass(frozen=True, slots=True)
class _Committed:
    """How far the ledger is."""

    frames: int
    """Frames with an outcome."""
    at_s: float
    """When the last segment was made, Unix time."""


def _await_frames(store: ObjectStore, frames: int, *, limit_s: float) -> _Committed:
    """Waits until so many frames have an outcome; returns how far the ledger is then."""
    found = _Committed(0, 0.0)

    def are_there() -> bool:
        nonlocal found
        found = _committed(store)
        return found.frames >= frames

    wait_until(are_there, limit_s=limit_s, what=f"{frames} committed frames", interval_s=_LOOK_S)
    return found


def _committed(store: ObjectStore) -> _Committed:
    ends = fix_ends(store).values()
    at_s = max((end.header.created_at.timestamp() for end in ends if end.header), default=0.0)
    return _Committed(sum(end.offset for end in ends), at_s)


def _costs(dev: Dev, place: Place, run: int) -> Cost:
    """Returns CPU seconds by process; the code location is not charged for the builds that have ended."""
    costs, servers = session_costs(dev.server.pid, _PARTS), server_cost(place.server_pids())
    (code,) = [pid for pid, part in session_processes(dev.server.pid, _PARTS).items() if part == CODE_SERVER]
    ended_s, run_s = finished_children_cpu_s(code), cpu_s(run)
    costs[CODE_SERVER] -= ended_s
    costs[_BUILDS] += ended_s - run_s
    return {_RUN: run_s, **costs, "Kafka": servers.kafka_cpu_s, "S3": servers.s3_cpu_s}
