"""What an idle minute of `dagster dev`, a build and the start of a run cost: CPU seconds, and requests to the store.

All checkouts (`--before FOLDER`) share the same minutes, each with its own `dagster dev`, topic and store, so that
ratios hold on a busy machine. A relay between each of them and the S3 server counts the requests.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median

import dagster as dg

from benchmarks.dagster_dev import LIMIT_S, Dev, dagster_dev
from benchmarks.material import make_pictures, null_network
from benchmarks.place import Effort, Place, say, store_pictures
from benchmarks.processes import Cost, finished_children_cpu_s
from benchmarks.report import Table
from imgpipeline.contracts.keys import report_key
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.objectstore import open_store
from imgpipeline_tests.defs.site import MODULE
from imgpipeline_tests.faults.counting_relay import CountingRelay
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.waiting import wait_until

_FRAMES = 200
_QUIET_LIMIT_S = 1_800.0
"""The first runs over 1,000 partitions take a while on a busy machine."""
_QUIET_S = 30.0
"""So long no run was live before a minute counts as idle."""
_JOBS = {"build with nothing to do": "rebuild_days", "detection run with nothing to read": "detect_frames"}


@dataclass(frozen=True, slots=True)
class _Measured:
    """What one checkout cost."""

    idle: Cost
    """CPU seconds of an idle minute by process."""
    idle_requests: int
    """To the store, in the same minute."""
    runs: Mapping[str, tuple[float, float]]
    """CPU seconds and requests of each kind of run."""


@dataclass(frozen=True, slots=True)
class _Watched:
    """One `dagster dev` behind a relay."""

    dev: Dev
    relay: CountingRelay

    def requests(self) -> int:
        """Returns how many requests it has sent to the store so far."""
        return sum(self.relay.requests.values())


def measure_idle(place: Place, effort: Effort) -> list[Table]:
    """Measures all checkouts with few and with many partitions; one table each."""
    return [_table(partitions, _measure(place, effort, partitions)) for partitions in effort.of((10, 1000), (10,))]


def _measure(place: Place, effort: Effort, partitions: int) -> dict[str, _Measured]:
    with contextlib.ExitStack() as stack:
        devs = {
            name: stack.enter_context(_dev(place, checkout, partitions)) for name, checkout in effort.checkouts.items()
        }
        for watched in devs.values():
            _await_tables(watched.dev)
        idle = _idle_minute(list(devs.values()), effort.of(60.0, 20.0))
        runs: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in devs}
        for _ in range(effort.of(3, 1)):
            for name, watched in devs.items():
                for job in _JOBS:
                    runs[name].setdefault(job, []).append(_cost_of_run(watched, job))
    return {
        name: _Measured(cost, requests, {job: _medians(costs) for job, costs in runs[name].items()})
        for name, (cost, requests) in zip(devs, idle, strict=True)
    }


def _medians(costs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median(cpu for cpu, _ in costs), median(requests for _, requests in costs)


@contextlib.contextmanager
def _dev(place: Place, checkout: Path, partitions: int) -> Iterator[_Watched]:
    """Starts `dagster dev` of a checkout over a topic with a few frames, which it makes tables of by itself."""
    with CountingRelay(place.s3.port) as relay:
        settings = place.settings("idle", partitions=partitions, linger_s=0.5, **null_network(place.folder).settings())
        urls = store_pictures(settings, make_pictures(160, 90, 20))
        with Announcer(settings) as announcer:
            for number in range(max(_FRAMES, 5 * partitions)):
                time_ = utc_now() - timedelta(days=1) + number * timedelta(seconds=1)
                source = f"camera-{number % (2 * partitions)}"
                announcer.announce(FrameMessage(source, urls[number % len(urls)], time_, frame_number=number))
        with dagster_dev(place, settings.model_copy(update={"s3_endpoint": relay.endpoint}), checkout) as dev:
            yield _Watched(dev, relay)


def _await_tables(dev: Dev) -> None:
    store, yesterday = open_store(dev.settings), (utc_now() - timedelta(days=1)).date()
    wait_until(
        lambda: store.head(report_key(yesterday)) is not None,
        limit_s=_QUIET_LIMIT_S,
        what=f"the report of {yesterday} by {dev.site.checkout}",
        interval_s=1,
    )


def _idle_minute(devs: Sequence[_Watched], seconds: float) -> list[tuple[Cost, int]]:
    """Returns the cost of each part, and the requests, in a stretch of time in which none of them ran anything."""
    while True:
        wait_until(
            lambda: all(time.time() - _last_run_ended(one.dev) > _QUIET_S for one in devs),
            limit_s=_QUIET_LIMIT_S,
            what="no runs",
            interval_s=2,
        )
        say(f"idle: watching for {seconds:.0f} s")
        began, before = time.time(), [(one.dev.costs(), one.requests()) for one in devs]
        time.sleep(seconds)
        after = [(one.dev.costs(), one.requests()) for one in devs]
        if all(_last_run_ended(one.dev) < began for one in devs):
            return [
                ({part: (new[part] - old.get(part, 0.0)) * 60 / seconds for part in new}, round((n - o) * 60 / seconds))
                for (old, o), (new, n) in zip(before, after, strict=True)
            ]
        say("idle: a run came in between; once more")


def _last_run_ended(dev: Dev) -> float:
    """Returns when the newest run ended, Unix time; of one that is live, now."""
    if dev.site.runs(live=True):
        return time.time()
    return max((record.end_time or 0.0 for record in dev.site.runs()), default=0.0)


def _cost_of_run(watched: _Watched, name: str) -> tuple[float, float]:
    """Launches a run that finds nothing to do; returns the CPU seconds of its process and the requests meanwhile."""
    dev, job = watched.dev, _JOBS[name]
    server = dev.code_location()
    before_s, before = finished_children_cpu_s(server), watched.requests()
    day = (utc_now() - timedelta(days=1)).date()
    tags = ["--tags", f'{{"dagster/partition": "{day}"}}'] if job == "rebuild_days" else []
    dev.site.run("dagster", "job", "launch", "-m", MODULE, "-j", job, *tags, limit_s=LIMIT_S)
    dev.site.wait_for_runs_to_end(limit_s=LIMIT_S)
    [last, *_] = dev.site.runs(job=job)
    if last.dagster_run.status is not dg.DagsterRunStatus.SUCCESS:
        raise RuntimeError(f"{name} by {dev.site.checkout} ended as {last.dagster_run.status}: see {dev.site.home}")
    wait_until(lambda: not dev.run_processes(), limit_s=LIMIT_S, what="the run's process to end")
    cost = finished_children_cpu_s(server) - before_s, float(watched.requests() - before)
    say(f"idle: {name}: {cost[0]:.2f} CPU s, {cost[1]:.0f} requests")
    return cost


def _table(partitions: int, measured: Mapping[str, _Measured]) -> Table:
    columns = ("what", *measured, *(f"less than {name}" for name in list(measured)[:-1]))
    figures: dict[str, list[float]] = {
        "idle minute of `dagster dev`: CPU s": [sum(one.idle.values()) for one in measured.values()]
    }
    for part in next(iter(measured.values())).idle:
        if any(one.idle.get(part, 0.0) >= 0.1 for one in measured.values()):
            figures[f"- its {part}: CPU s"] = [one.idle.get(part, 0.0) for one in measured.values()]
    figures["idle minute: requests to the store"] = [one.idle_requests for one in measured.values()]
    for job in _JOBS:
        figures[f"{job}, its process: CPU s"] = [one.runs[job][0] for one in measured.values()]
        figures[f"{job}: requests to the store meanwhile"] = [one.runs[job][1] for one in measured.values()]
    rows = []
    for text, values in figures.items():
        shown = [f"{value:.2f}" if "CPU" in text else f"{value:,.0f}" for value in values]
        rows.append((text, *shown, *(f"{100 * (1 - values[-1] / old):.0f} %" if old else "-" for old in values[:-1])))
    return Table(columns, rows, f"{partitions:,} partitions:")
