"""A backlog that Dagster works off as shipped, beside its own processes and the builds, and the bare loop alone.

`throughput` measures a run alone. Here `dagster dev` finds the backlog, starts the run, and builds the day's tables
while the run commits: webserver, daemon, code location, builds, Kafka and S3 have the same cores.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.children import REPOSITORY
from benchmarks.effort import Effort
from benchmarks.idle import PARTS, Dev, dagster_dev
from benchmarks.latency import usual_network
from benchmarks.machine import commit_of
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, announce_backlog, say, server_cost, store_pictures
from benchmarks.processes import Cost, session_costs
from benchmarks.table import Table, at_least
from benchmarks.throughput import Contest, frames_for, prepare, try_arrangements
from imgpipeline.ledger import fix_ends
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.servers.waiting import wait_until

_START_LIMIT_S = 180.0
_SLOWEST_PER_S = 5
_POLL_S = 0.1
_GOAL = 0.85
_RUNS = "detection run, and builds that are live"
_PARTS: Mapping[str, str] = {**PARTS, "spawn_main": _RUNS}
"""As of `idle`; the code location starts the process of a run by `multiprocessing`, and is charged for those that have
ended."""


def measure_beside(place: Place, effort: Effort, before: Sequence[Path] = ()) -> dict[str, Any]:
    """Measures Dagster with a backlog and the bare loop, in turns.

    Args:
        place: The servers.
        effort: How long, and how often.
        before: Folders of older checkouts, measured in the same turns.

    Returns:
        For each checkout, oldest first: its commit, the rounds with frames/s, ratio, builds and cores by process, and
        the median ratio.
    """
    network = usual_network()
    contest = prepare(place, network, make_pictures(640, 360, effort.pictures))
    trials = try_arrangements(contest, effort.beside_s / 6)
    best = max(trials, key=lambda trial: float(trial["frames_per_s"]))
    arrangement, frames = (int(best["workers"]), int(best["threads"])), frames_for(best, effort.beside_s)
    announce_backlog(contest.settings, store_pictures(contest.settings, contest.pictures), frames)
    checkouts = [*before, REPOSITORY]
    rounds: list[list[dict[str, Any]]] = [[] for _ in checkouts]
    bare = [float(contest.bare(arrangement, frames)["frames_per_s"])]
    for _ in range(effort.beside_rounds):
        for checkout, told in zip(checkouts, rounds, strict=True):
            one = _work_off(contest, frames, checkout)
            bare.append(float(contest.bare(arrangement, frames)["frames_per_s"]))
            one |= {"bare_frames_per_s": mean(bare[-2:]), "ratio": one["frames_per_s"] / mean(bare[-2:])}
            told.append(one)
            say(f"beside, {commit_of(checkout)}: {one['frames_per_s']:.1f} frames/s, ratio {one['ratio']:.2f}")
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
    columns = ("checkout", "frames/s", "bare loop alone, frames/s", "ratio", "least to greatest", "goal", "builds")
    names = [*(f"commit {one['commit']}" for one in part["checkouts"][:-1]), "this commit"]
    rows, cores = [], []
    for name, one in zip(names, part["checkouts"], strict=True):
        rounds = one["rounds"]
        ratios = [each["ratio"] for each in rounds]
        speeds = (median(each[figure] for each in rounds) for figure in ("frames_per_s", "bare_frames_per_s"))
        apart = f"{min(ratios):.2f} to {max(ratios):.2f}"
        builds = f"{median(each['builds'] for each in rounds):g}"
        rows.append(
            (name, *(f"{speed:.1f}" for speed in speeds), f"{one['ratio']:.2f}", apart, at_least(one["ratio"], _GOAL),
             builds)
        )  # fmt: skip
        cores.append({process: median(each["cores"][process] for each in rounds) for process in rounds[0]["cores"]})
    shared = [(process, *(f"{each[process]:.2f}" for each in cores)) for process in cores[-1]]
    return [Table(columns, tuple(rows)), Table(("cores in use, on average", *names), tuple(shared))]


def _work_off(contest: Contest, frames: int, checkout: Path) -> dict[str, Any]:
    """Lets a fresh `dagster dev` work off the backlog; the time counts from its first commit to its last."""
    place, settings = contest.place, contest.place.again(contest.settings, "beside")
    store = open_store(settings)
    with dagster_dev(place, settings, checkout) as dev:
        wait_until(lambda: _done(store) > 0, limit_s=_START_LIMIT_S, what="the first commit", interval_s=_POLL_S)
        began_s, done, before = time.monotonic(), _done(store), _costs(dev, place)
        limit_s = frames / _SLOWEST_PER_S
        wait_until(lambda: _done(store) == frames, limit_s=limit_s, what="the last commit", interval_s=_POLL_S)
        took_s, after = time.monotonic() - began_s, _costs(dev, place)
        builds = sum(run.dagster_run.job_name != "detect_frames" for run in dev.site.runs())
    cores = {process: (after[process] - before.get(process, 0.0)) / took_s for process in after}
    return {"frames_per_s": (frames - done) / took_s, "builds": builds, "cores": cores}


def _done(store: ObjectStore) -> int:
    return sum(end.offset for end in fix_ends(store).values())


def _costs(dev: Dev, place: Place) -> Cost:
    servers = server_cost(place.server_pids())
    return {**session_costs(dev.server.pid, _PARTS), "Kafka": servers.kafka_cpu_s, "S3": servers.s3_cpu_s}
