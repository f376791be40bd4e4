"""A process that has loaded the command's modules and forks for each command: a command starts within milliseconds.

Each command still has a process of its own, with the working folder, the environment and the files that it is given.
What such a fork leaves out is the start of the interpreter and the clean-up of its modules at the end.
"""

import array
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from imgpipeline import cli

_LIMIT_S = 120
_MODULE = "imgpipeline.cli"
_PRELOADED = (
    *(f"imgpipeline.cli.{module.name}" for module in pkgutil.iter_modules(cli.__path__) if module.name != "__main__"),
    "pandas",
    "rich.markdown",
)
_READ_LATE = ("IMGPIPELINE_", "AWS_", "KAFKA_", "HETZNER_", "XDG_CACHE_HOME")
_READ_EARLY = "IMGPIPELINE_FAULT_"


def can_run(changed: Mapping[str, str]) -> bool:
    """Tell whether a forked command sees these variables as a new process would: none is read at a module's import."""
    return all(name.startswith(_READ_LATE) and not name.startswith(_READ_EARLY) for name in changed)


class WarmProcess:
    """Runs commands one at a time in forks of a process that has loaded their modules; a context manager."""

    def __init__(self) -> None:
        """Prepare; the process starts with the first command."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def run(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: BinaryIO, stderr: BinaryIO
    ) -> int:
        """Run `imgpipeline` with these arguments and return its status (negative: the signal that ended it).

        Raises:
            TimeoutError: The command took longer than two minutes; it is killed.
        """
        with self._lock:
            connection = self._started()
            request = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}).encode()
            files = array.array("i", [stdout.fileno(), stderr.fileno()])
            try:
                connection.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
                return int(connection.recv(64))
            except BaseException:  # also a test's time limit: the next command must not read this one's status
                self._kill()
                raise

    def stop(self) -> None:
        """End the process where it runs."""
        if self._process is not None and self._socket is not None:
            self._socket.close()
            self._process.wait(timeout=30)
            self._process = None

    def _kill(self) -> None:
        """End the process and the command that it runs; the next command starts another one."""
        if self._process is not None and self._socket is not None:
            self._socket.close()
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None

    def _started(self) -> socket.socket:
        if self._process is None or self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.settimeout(_LIMIT_S)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                    start_new_session=True,  # a command that takes too long is killed with all that it started
                )
        return self._socket


def serve(connection: socket.socket) -> None:
    """Fork for each request, and answer its status; return when nobody asks any more."""
    fork = multiprocessing.get_context("fork")
    while True:
        request, files, _, _ = socket.recv_fds(connection, 2**20, 2)
        if not request:
            return
        command = fork.Process(target=_run, args=(json.loads(request), files))
        command.start()
        for file in files:
            os.close(file)
        command.join()
        connection.send(str(command.exitcode).encode())


def _run(request: Mapping[str, Any], files: Sequence[int]) -> None:
    for file, own in zip(files, (1, 2), strict=True):
        os.dup2(file, own)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = [_MODULE, *request["arguments"]]
    runpy.run_module(_MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for module in _PRELOADED:
        importlib.import_module(module)
    gc.freeze()  # or each fork's garbage collection copies every page
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        serve(asked)
