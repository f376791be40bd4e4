"""One server process: started with a log file, awaited, stopped by its process id, never left behind.

A test session can end by SIGKILL, so the kernel is asked to end the child together with its parent. What a server
needs on its command line does not belong here.
"""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from imgpipeline_tests.servers.ports import listens
from imgpipeline_tests.servers.waiting import wait_until


class ServerProcess:
    """A child process that is the server itself, not a shell around it.

    The kernel sends `death_signal` when the *thread* that started the child ends: start servers from the main
    thread, as pytest's fixtures do.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log_path: Path,
        *,
        environment: Mapping[str, str] | None = None,
        account: pwd.struct_passwd | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self._name = name
        self._command = [str(part) for part in command]
        self._environment = environment
        self._account = account
        self._death_signal = death_signal
        self._child: subprocess.Popen[bytes] | None = None
        self.log_path = log_path

    @property
    def pid(self) -> int:
        """The process id; an error where nothing was started."""
        return self._started().pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.poll() is None

    def start(self, is_ready: Callable[[], bool], *, limit_s: float) -> None:
        """Start the process and return when it is ready.

        Raises:
            RuntimeError: It runs already, or ended instead of getting ready; the message has the end of its log.
            TimeoutError: It was not ready within `limit_s`; it has been killed.
        """
        if self.is_alive:
            raise RuntimeError(f"{self._name} runs already as process {self.pid}")
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                dying_with_parent(self._command, self._death_signal),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches the tests alone, which then stop their servers
                user=None if self._account is None else self._account.pw_uid,
                group=None if self._account is None else self._account.pw_gid,
                extra_groups=None if self._account is None else [],
            )
        try:
            what = f"{self._name} to be ready"
            wait_until(lambda: self._ready_or_dead(is_ready), limit_s=limit_s, what=what, interval_s=0.1)
        except BaseException:
            self.kill()
            raise

    def stop(self, stop_signal: signal.Signals = signal.SIGTERM, *, limit_s: float = 20) -> None:
        """Ask the process to end, and kill it where it does not within the limit. Harmless when it is gone."""
        if not self.is_alive:
            return
        child = self._started()
        child.send_signal(stop_signal)
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process by SIGKILL and collect it. Harmless when it is gone."""
        if self.is_alive:
            child = self._started()
            child.kill()
            child.wait()

    def kill_group(self) -> None:
        """End the process and all that it has started, like a power cut. Harmless when they are gone."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):  # the process has a session of its own
                os.killpg(self._child.pid, signal.SIGKILL)
            self.kill()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP and SIGCONT for a server that hangs."""
        self._started().send_signal(number)

    def listens_on(self, port: int) -> bool:
        """Tell whether this very process listens on the port; another one that has taken it does not count."""
        return listens(self.pid, port)

    def log_tail(self, size_bytes: int = 4000) -> str:
        """Return the end of the process's log."""
        return self.log_path.read_bytes()[-size_bytes:].decode(errors="replace")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError(f"{self._name} was not started")
        return self._child

    def _ready_or_dead(self, is_ready: Callable[[], bool]) -> bool:
        status = self._started().poll()
        if status is not None:
            raise RuntimeError(f"{self._name} ended with status {status} at its start:\n{self.log_tail()}")
        return is_ready()


class Server:
    """A server in one process with a folder of its own; a context manager, at whose end it is killed.

    `kill` keeps its data, and `start` afterwards serves them on the same ports.
    """

    process: ServerProcess
    port: int

    def start(self) -> None:
        """Start the server, the first time or again; it is ready afterwards.

        Raises:
            RuntimeError: It ended at its start; the message has the end of its log.
            TimeoutError: It was not ready within 60 seconds.
        """
        self.process.start(self.is_ready, limit_s=60)

    def is_ready(self) -> bool:
        """Tell whether clients can connect."""
        return self.process.listens_on(self.port)

    def stop(self) -> None:
        """End the server in order."""
        self.process.stop()

    def kill(self) -> None:
        """End the server by SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        """Kill the server where it runs, and start it again."""
        self.kill()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def dying_with_parent(command: Sequence[str], death_signal: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return a command line whose process the kernel ends together with its parent.

    `setpriv` asks the kernel, then becomes the command under the same process id. Asking between fork and exec would
    run Python code in a copy of a process with threads, which can wait forever for a lock that no thread holds there.
    """
    return ["setpriv", "--pdeathsig", death_signal.name.removeprefix("SIG"), *command]


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, also if its parent has not collected it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
