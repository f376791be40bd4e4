"""Starts `dagster dev` of a checkout with a store of its own, and reads what its processes cost."""

import contextlib
import os
import signal
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import variables_of
from benchmarks.place import REPOSITORY, Place
from benchmarks.processes import Cost, session_costs, session_processes
from imgpipeline.settings import Settings
from imgpipeline_tests.defs.site import MODULE, Site, make_site
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.processes import ServerProcess

LIMIT_S = 300.0
BUILDS = "builds"
_CODE_LOCATION = "code location"
_PARTS = {
    "dagster_webserver": "webserver",
    "dagster._daemon": "daemon",
    "code-server": "code location's proxy",
    "api grpc": _CODE_LOCATION,
    "spawn_main": BUILDS,
}
"""Tells the processes of `dagster dev` apart by a part of their command line. The code location starts the process of
each run by `multiprocessing`."""


@dataclass(frozen=True, slots=True)
class Dev:
    """One `dagster dev`."""

    site: Site
    """Its DAGSTER_HOME, environment and code."""
    settings: Settings
    server: ServerProcess
    """The leader of its session."""

    def costs(self) -> Cost:
        """Returns what its processes have cost so far, CPU seconds by part."""
        return session_costs(self.server.pid, _PARTS)

    def code_location(self) -> int:
        """Returns the process that starts those of runs."""
        return next(pid for pid, part in session_processes(self.server.pid, _PARTS).items() if part == _CODE_LOCATION)

    def split_runs(self, costs: Cost, runs_s: float) -> Cost:
        """Returns the costs with the runs that have ended counted as builds, not as the code location's."""
        return {**costs, _CODE_LOCATION: costs[_CODE_LOCATION] - runs_s, BUILDS: costs[BUILDS] + runs_s}

    def run_processes(self) -> list[int]:
        """Returns the living processes of runs; the one that started first has the smallest id."""
        return sorted(pid for pid, part in session_processes(self.server.pid, _PARTS).items() if part == BUILDS)


@contextlib.contextmanager
def dagster_dev(place: Place, settings: Settings, checkout: Path = REPOSITORY) -> Iterator[Dev]:
    """Starts webserver, daemon and code location, with all sensors on.

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
        server.start(lambda: _answers(port), limit_s=LIMIT_S)
        yield Dev(site, settings, server)
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
