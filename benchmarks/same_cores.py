"""A backlog that Dagster works off as shipped, on the same cores as its own processes and the builds.

`throughput` measures a run alone. Here `dagster dev` finds the backlog, starts the run, and builds the day's tables
while the run commits: webserver, daemon, code location, builds, Kafka and S3 have the same cores.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.dagster_dev import Dev, dagster_dev
from benchmarks.material import MissingDataError, Network, yolov4_tiny, yolox_nano
from benchmarks.place import Effort, Place, announce_backlog, say
from benchmarks.processes import Cost, cpu_s, finished_children_cpu_s
from benchmarks.report import Table, at_least, left_out
from benchmarks.rounds import Figures, Rounds, take_turns
from benchmarks.throughput import BARE, Contest, frames_for, prepare
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.servers.waiting import wait_until

_START_LIMIT_S = 180.0
_SLOWEST_PER_S = 5
_BARE_S = 30.0
_LOOK_S = 2.0
_LINGER_S = 10.0
"""The run's CPU seconds are read up to `_LOOK_S` after its last commit; it must not have ended by then."""
_GOAL = 0.85
_RUN = "detection run"


def measure_same_cores(place: Place, effort: Effort) -> list[Table]:
    """Measures `dagster dev` with a backlog and the bare loop alone, in turns.

    Returns:
        The speed of each model and checkout, and who had the cores.
    """
    found: dict[str, Rounds] = {}
    missing = []
    for make in (yolox_nano, lambda: yolov4_tiny(place.folder)):
        try:
            network = make()
            found[network.name] = _measure(place, effort, network)
        except MissingDataError as error:
            missing.append(str(error))
    return [_speeds(found), _cores(found), *left_out(missing)]


def _measure(place: Place, effort: Effort, network: Network) -> Rounds:
    seconds = effort.of(120.0, 20.0)
    contest = prepare(place, network, (640, 360), effort.of(265, 60))
    arrangement, rate = contest.best_bare(min(seconds, _BARE_S) / 4)
    frames, bare_frames = frames_for(rate, seconds), frames_for(rate, min(seconds, _BARE_S))
    announce_backlog(contest.settings, contest.urls, frames)
    say(f"dagster dev on the same cores: {contest.name}: {frames} frames")
    contenders: dict[str, Callable[[], Figures]] = {
        name: partial(_work_off, contest, frames, checkout) for name, checkout in effort.checkouts.items()
    }
    contenders[BARE] = lambda: contest.bare(arrangement, bare_frames)
    return take_turns(contenders, effort.of(2, 1), shown="frames_per_s")


def _speeds(found: dict[str, Rounds]) -> Table:
    columns = ("model", "checkout", "frames/s", "bare loop alone, frames/s", "ratio", "least to greatest", "goal",
               "builds")  # fmt: skip
    rows = []
    for network, rounds in found.items():
        for name in _checkouts(rounds):
            ratio = rounds.ratio(name, BARE, "frames_per_s")
            rates = (f"{rounds.median(who, 'frames_per_s'):.1f}" for who in (name, BARE))
            rows.append((network, name, *rates, f"{ratio.median:.2f}", ratio.spread, at_least(ratio.median, _GOAL),
                         f"{rounds.median(name, 'builds'):g}"))  # fmt: skip
    return Table(columns, rows)


def _cores(found: dict[str, Rounds]) -> Table:
    measured = {
        f"{network}, {name}": [each["cores"] for each in rounds.figures[name]]
        for network, rounds in found.items()
        for name in _checkouts(rounds)
    }
    parts = next(iter(measured.values()))[0] if measured else {}
    rows = [(part, *(f"{median(each[part] for each in one):.2f}" for one in measured.values())) for part in parts]
    return Table(("cores in use, on average", *measured), rows)


def _checkouts(rounds: Rounds) -> list[str]:
    return [name for name in rounds.figures if name != BARE]


def _work_off(contest: Contest, frames: int, checkout: Path) -> Figures:
    """Lets a fresh `dagster dev` work off the backlog; the rate counts from the first commit that is seen to the last.

    The moments of both are in the ledger, so it is read rarely: ten times a second cost a twentieth of the two cores.
    """
    place = contest.place
    settings = place.again(contest.settings.model_copy(update={"linger_s": _LINGER_S}), "dagster")
    store = open_store(settings)
    with dagster_dev(place, settings, checkout) as dev:
        first_frames, first_s = await_frames(store, 1, limit_s=_START_LIMIT_S)
        run = dev.run_processes()[0]  # builds start after the first commit
        began_s, before = time.time(), _costs(dev, place, run)
        last_frames, last_s = await_frames(store, frames, limit_s=frames / _SLOWEST_PER_S)
        after = _costs(dev, place, run)
        builds = sum(one.dagster_run.job_name != "detect_frames" for one in dev.site.runs())
    cores = {part: (after[part] - before[part]) / (last_s - began_s) for part in after}
    return {"frames_per_s": (last_frames - first_frames) / (last_s - first_s), "builds": builds, "cores": cores}


def await_frames(store: ObjectStore, frames: int, *, limit_s: float) -> tuple[int, float]:
    """Waits until so many frames have an outcome; returns how many have one, and when the last segment was made."""
    found = (0, 0.0)

    def are_there() -> bool:
        nonlocal found
        ends = fix_ends(store).values()
        at_s = max((end.header.created_at.timestamp() for end in ends if end.header), default=0.0)
        found = sum(end.offset for end in ends), at_s
        return found[0] >= frames

    wait_until(are_there, limit_s=limit_s, what=f"{frames} committed frames", interval_s=_LOOK_S)
    return found


def _costs(dev: Dev, place: Place, run: int) -> Cost:
    """Returns CPU seconds by process; the builds that have ended are not the code location's."""
    run_s, servers = cpu_s(run), place.server_pids()
    costs = dev.split_runs(dev.costs(), finished_children_cpu_s(dev.code_location()))
    costs["builds"] -= run_s
    return {_RUN: run_s, **costs, "Kafka": cpu_s(servers["kafka"]), "S3": cpu_s(servers["s3"])}
