"""Starts and ends the services of a site, and asks for their health, as docker compose does."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from imgpipeline_tests.compose.project import Service, in_order
from imgpipeline_tests.compose.sandbox import Sandboxes
from imgpipeline_tests.servers.waiting import wait_until

START_TIMEOUT_S = 90.0
_END_TIMEOUT_S = 60.0  # `stop_grace_period` of the compose file


class Site:
    """All services; a context manager that ends them."""

    def __init__(
        self, work_dir: Path, services: Mapping[str, Service], say: Callable[[str], None], hosts: Sequence[str]
    ) -> None:
        self.services = dict(services)
        self.sandboxes = Sandboxes(work_dir, list(services.values()), also=hosts)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = work_dir / "logs"
        self._logs.mkdir()
        self._say = say

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self.processes)):
            self.stop(name)

    def start_all(self) -> None:
        """Start the services in their order, each when those that it waits for are as far as it wants."""
        for service in in_order(self.services):
            for needed, condition in service.needs.items():
                if condition == "service_healthy":
                    self.wait_until_healthy(needed)
                elif condition == "service_completed_successfully":
                    self.wait_until_done(needed)
            self.start(service.name)

    def start(self, name: str) -> None:
        """Start one service."""
        command = self.sandboxes.command(self.services[name])
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self, name: str) -> float:
        """End a service by SIGTERM to all its processes; return how many seconds it took."""
        process = self.processes.pop(name)
        began = time.monotonic()
        for pid in _below(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        try:
            process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._say(f"{name} did not end within {_END_TIMEOUT_S:g} s")
            process.kill()
            process.wait()
        return time.monotonic() - began

    def wait_until_done(self, name: str) -> None:
        """Wait for a service that ends by itself; raise RuntimeError with its log if it failed."""
        status = self.processes[name].wait(START_TIMEOUT_S)
        if status != 0:
            raise RuntimeError(f"{name} ended with status {status}:\n{self.log(name).read_text()[-4000:]}")

    def wait_until_healthy(self, name: str) -> None:
        """Wait until a health check passes; raise RuntimeError with the log if the service ends before."""
        began = time.monotonic()
        try:
            wait_until(lambda: self.is_healthy(name), limit_s=START_TIMEOUT_S, what=name, interval_s=1)
        except TimeoutError as error:
            said = self.run(name, self.services[name].health_command, check=False)
            raise RuntimeError(f"{error}: {said.stdout}{said.stderr}\n{self.log(name).read_text()[-4000:]}") from None
        self._say(f"{name} is healthy after {time.monotonic() - began:.1f} s")

    def is_healthy(self, name: str) -> bool:
        """Run the health check of a service."""
        process = self.processes[name]
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with status {process.returncode}:\n{self.log(name).read_text()[-4000:]}")
        service = self.services[name]
        done = self.run(name, service.health_command, check=False)
        return done.returncode == 0

    def run(self, name: str, command: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the sandbox of a service, as `docker compose exec` does.

        Raises:
            RuntimeError: It failed; the message has its output.
        """
        wrapped = self.sandboxes.inside(self.services[name], command)
        done = subprocess.run(
            wrapped, check=False, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{name}: {' '.join(command)}: status {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def log(self, name: str) -> Path:
        """Return the file with the output of a service."""
        return self._logs / f"{name}.log"


def _below(pid: int) -> list[int]:
    """Return the processes inside a sandbox, but not the sandbox itself, which ends with them."""
    inner = _children(pid)
    return [grandchild for child in inner for grandchild in _children(child)] or inner or [pid]


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(each) for each in path.read_text().split()] if path.exists() else []
