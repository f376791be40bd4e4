"""What Dagster's own processes cost: an idle minute of `dagster dev`, a build with nothing to do, the start of a run.

Measured as CPU seconds, user and system. Older checkouts can be measured as well (`--before FOLDER`): each has
its own `dagster dev`, topic and store, and all share the same minutes, so that ratios hold on a busy machine.
"""

import contextlib
import os
import signal
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg

from benchmarks.children import variables_of
from benchmarks.effort import Effort
from benchmarks.latency import usual_network
from benchmarks.machine import commit_of
from benchmarks.pictures import make_pictures
from benchmarks.place import Place, say, store_pictures
from benchmarks.processes import Cost, finished_children_cpu_s, session_costs, session_processes
from imgpipeline.contracts.keys import report_key
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.defs.site import MODULE, REPOSITORY, Site, make_site
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.processes import ServerProcess
from imgpipeline_tests.servers.waiting import wait_until

_FRAMES = 200
_STEP = timedelta(seconds=1)
_LINGER_S = 0.5
_LIMIT_S = 300.0
_QUIET_S = 30.0
"""So long no run was live before a minute counts as idle."""
CODE_SERVER = "code location"
PARTS = {
    "dagster_webserver": "webserver",
    "dagster._daemon": "daemon",
    "code-server": "code location's proxy",
    "api grpc": CODE_SERVER,
}
"""How the processes of `dagster dev` are told apart: by a part of their command line."""
_RUNS = {"build": "rebuild_days", "detection": "detect_frames"}


@dataclass(frozen=True, slots=True)
class Dev:
    """One `dagster dev` with a store of its own."""

    checkout: Path
    """The code that it runs."""
    site: Site
    """Its DAGSTER_HOME and environment."""
    settings: Settings
    """Its topic and store."""
    server: ServerProcess
    """The leader of its session."""

    def costs(self) -> Cost:
        """Returns what its processes have cost so far, CPU seconds by part."""
        return session_costs(self.server.pid, PARTS)


def measure_idle(place: Place, effort: Effort, before: Sequence[Path] = ()) -> dict[str, Any]:
    """Measures this checkout, and older ones beside it.

    Args:
        place: The servers.
        effort: How long the idle time is, and how many runs are started.
        before: Folders of older checkouts; each with a `.venv` of its own, or it runs with this one's packages.

    Returns:
        For each checkout, oldest first: its commit, CPU seconds of an idle minute by process, and of the processes of
        runs with nothing to do.
    """
    with contextlib.ExitStack() as stack:
        devs = [stack.enter_context(_dev(place, checkout)) for checkout in (*before, REPOSITORY)]
        for dev in devs:
            _await_tables(dev)
        idle = _idle_minute(devs, effort.idle_minute_s)
        runs = [{name: [] for name in _RUNS} for _ in devs]
        for _ in range(effort.idle_runs):
            for dev, costs in zip(devs, runs, strict=True):
                for name in _RUNS:
                    costs[name].append(_run_cost_s(dev, name))
        return {
            "minute_s": effort.idle_minute_s,
            "checkouts": [
                {"commit": commit_of(dev.checkout), "idle": parts, "runs": {n: median(s) for n, s in costs.items()}}
                for dev, parts, costs in zip(devs, idle, runs, strict=True)
            ],
        }


@contextlib.contextmanager
def _dev(place: Place, checkout: Path) -> Iterator[Dev]:
    """Starts `dagster dev` of a checkout over a topic with a few frames, which it makes tables of by itself."""
    network = usual_network()
    settings = place.settings("idle", linger_s=_LINGER_S, **network.settings())
    urls = store_pictures(settings, make_pictures(640, 360, 20))
    with Announcer(settings) as announcer:
        for number in range(_FRAMES):
            moment = utc_now() - timedelta(days=1) + number * _STEP
            announcer.announce(FrameMessage("street", urls[number % len(urls)], moment, frame_number=number))
    with dagster_dev(place, settings, checkout) as dev:
        yield dev


@contextlib.contextmanager
def dagster_dev(place: Place, settings: Settings, checkout: Path = REPOSITORY) -> Iterator[Dev]:
    """Starts `dagster dev`: webserver, daemon and code location, with all sensors on.

    Args:
        place: Its folder gets the DAGSTER_HOME.
        settings: Topic and store.
        checkout: The code that it runs.
    """
    home = place.folder / f"dagster-{settings.kafka_group}"
    site = make_site(home, variables_of(settings), checkout=checkout)
    port = free_port()
    command = [site.programs / "dagster", "dev", "-m", MODULE, "-d", checkout, "-h", "127.0.0.1", "-p", str(port)]
    server = ServerProcess("dagster dev", command, home / "dev.log", environment=site.environment)
    try:
        server.start(lambda: _answers(port), limit_s=_LIMIT_S)
        yield Dev(checkout, site, settings, server)
    finally:
        server.stop(signal.SIGINT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=2).close()
    except OSError:
        return False
    return True


def _await_tables(dev: Dev) -> None:
    store, yesterday = open_store(dev.settings), (utc_now() - timedelta(days=1)).date()
    wait_until(
        lambda: store.head(report_key(yesterday)) is not None,
        limit_s=_LIMIT_S,
        what=f"the report of {yesterday} by {dev.checkout}",
        interval_s=1,
    )


def _idle_minute(devs: Sequence[Dev], seconds: float) -> list[Cost]:
    """Returns the CPU seconds of each part in a stretch of time in which none of them ran anything."""
    while True:
        _await_quiet(devs)
        say(f"idle: watching for {seconds:.0f} s")
        began, before = time.time(), [dev.costs() for dev in devs]
        time.sleep(seconds)
        after = [dev.costs() for dev in devs]
        if all(_last_run_ended(dev) < began for dev in devs):
            return [_difference(old, new) for old, new in zip(before, after, strict=True)]
        say("idle: a run came in between; once more")


def _await_quiet(devs: Sequence[Dev]) -> None:
    wait_until(
        lambda: all(time.time() - _last_run_ended(dev) > _QUIET_S for dev in devs),
        limit_s=_LIMIT_S,
        what="no runs",
        interval_s=2,
    )


def _last_run_ended(dev: Dev) -> float:
    """Returns when the newest run ended, Unix time; of one that is live, now."""
    if dev.site.runs(live=True):
        return time.time()
    return max((record.end_time or 0.0 for record in dev.site.runs()), default=0.0)


def _difference(before: Cost, after: Cost) -> Cost:
    return {part: after[part] - before.get(part, 0.0) for part in after}


def _run_cost_s(dev: Dev, name: str) -> float:
    """Launches a run that finds nothing to do, and returns the CPU seconds of its process."""
    (server,) = [pid for pid, part in session_processes(dev.server.pid, PARTS).items() if part == CODE_SERVER]
    before_s = finished_children_cpu_s(server)
    day = (utc_now() - timedelta(days=1)).date()
    tags = ["--tags", f'{{"dagster/partition": "{day}"}}'] if name == "build" else []
    dev.site.run("dagster", "job", "launch", "-m", MODULE, "-j", _RUNS[name], *tags, limit_s=_LIMIT_S)
    dev.site.wait_for_runs_to_end(limit_s=_LIMIT_S)
    [last, *_] = dev.site.runs(job=_RUNS[name])
    if last.dagster_run.status is not dg.DagsterRunStatus.SUCCESS:
        raise RuntimeError(f"{name} by {dev.checkout} ended as {last.dagster_run.status}: see {dev.site.home}")
    wait_until(lambda: finished_children_cpu_s(server) > before_s, limit_s=_LIMIT_S, what="the run's process to end")
    cost_s = finished_children_cpu_s(server) - before_s
    say(f"idle: {name} by {commit_of(dev.checkout)}: {cost_s:.2f} CPU s")
    return cost_s
