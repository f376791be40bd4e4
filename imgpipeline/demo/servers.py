"""The demo's folder, recreated at each start, and its servers: Dagster and the viewer, each a child process.

The servers end with their context, after Ctrl-C, and when the demo is killed.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imgpipeline.errors import ConfigurationError, PermanentError

_START_S = 1_800.0
"""How long a server may take to answer. Dagster took ten minutes on a busy machine."""
_END_S = 60.0
"""How long a server may take to end cleanly, which takes Dagster a while on a busy machine."""
_PR_SET_PDEATHSIG = 1
"""Option of prctl(2): the signal that this process gets when its parent ends."""


def free_port() -> int:
    """Returns a free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_port(port: int) -> None:
    """Checks that a server can listen on a port.

    Raises:
        ConfigurationError: Another program uses the port, or this user may not open it.
    """
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise ConfigurationError(
            f"The viewer cannot listen on 127.0.0.1:{port}: {error.strerror or error}.",
            next_step="name another --viewer-port, or leave it out for a free one",
        ) from error


@dataclass(frozen=True, slots=True)
class DemoServer:
    """A started server, which may not answer yet."""

    name: str
    process: subprocess.Popen[bytes]
    """The leader of its process group."""
    url: str
    ready_path: str
    """Path that answers once it has started."""
    log_file: Path

    def await_answer(self, limit_s: float = _START_S) -> None:
        """Waits until the server answers.

        Raises:
            PermanentError: The server ended, or does not answer; the message names its log.
        """
        began_s, why = time.monotonic(), None
        while why is None:
            try:
                urllib.request.urlopen(f"{self.url}{self.ready_path}", timeout=2).close()  # noqa: S310 - our own server
            except OSError:
                time.sleep(0.2)
            else:
                return
            is_late = time.monotonic() - began_s > limit_s
            why = self.why_ended() or (f"it has not answered after {limit_s:g} s" if is_late else None)
        raise PermanentError(f"{self.name} did not start: {why}.", next_step=f"read {self.log_file}")

    def why_ended(self) -> str | None:
        """Returns how the server ended; None while it runs."""
        status = self.process.poll()
        return None if status is None else f"it ended with status {status}"


@contextlib.contextmanager
def dagster_server(environment: Mapping[str, str], logs: Path) -> Iterator[DemoServer]:
    """Starts Dagster's webserver and daemon for this project, and yields before they answer."""
    port = free_port()
    command = ["dagster", "dev", "-m", "imgpipeline.definitions", "--log-level", "warning"]
    with _server("Dagster", command, port, "/server_info", environment, logs / "dagster.log") as server:
        yield server


@contextlib.contextmanager
def viewer_server(environment: Mapping[str, str], logs: Path, *, port: int | None = None) -> Iterator[DemoServer]:
    """Starts `imgpipeline serve`, and yields before it answers."""
    port = port or free_port()
    command = ["imgpipeline.cli", "serve"]
    with _server("The viewer", command, port, "/api/v1/status", environment, logs / "viewer.log") as server:
        yield server


@contextlib.contextmanager
def _server(
    name: str, module: Sequence[str], port: int, ready_path: str, environment: Mapping[str, str], log_file: Path
) -> Iterator[DemoServer]:
    with log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", *module, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            cwd=log_file.parent,
            start_new_session=True,
            preexec_fn=_prepare_child,  # noqa: PLW1509 - two system calls, before any thread is started
        )
    try:
        yield DemoServer(name, process, f"http://127.0.0.1:{port}", ready_path, log_file)
    finally:
        _end(process)


def _prepare_child() -> None:
    """Lets the child react to SIGINT, which background jobs of a shell ignore, and end with the demo (Linux)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a server and everything that it started: first with SIGINT, then with SIGKILL."""
    for how, limit_s in ((signal.SIGINT, _END_S), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(limit_s)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


_PACKAGE = Path(__file__).resolve().parents[1]
_MARK = "this-folder-belongs-to-the-demo"


@dataclass(frozen=True, slots=True)
class DemoWorkspace:
    """The folder of one demo."""

    folder: Path
    """Contains everything below; emptied at each start."""
    store: Path
    """The object store."""
    dagster_home: Path
    """Dagster's runs, events and settings."""
    pictures: Path
    """Simulated images before they are ingested."""
    logs: Path
    """The logs of the servers."""

    def environment(self, model: str, first_day: date) -> dict[str, str]:
        """Returns the settings of a demo, for this process and the servers.

        They include everything that a demo depends on, so the environment or `.env` of a deployment cannot change it.

        Args:
            model: Registered model, or path of an ONNX file.
            first_day: First daily partition. A few days are easier to read than decades.
        """
        return {
            "IMGPIPELINE_FIRST_DAY": first_day.isoformat(),
            "DAGSTER_HOME": str(self.dagster_home),
            "IMGPIPELINE_STORE_URL": self.store.as_uri(),
            "IMGPIPELINE_KAFKA_TOPIC": "frames",
            "IMGPIPELINE_KAFKA_GROUP": "imgpipeline-demo",
            "IMGPIPELINE_MODEL": model,
            "IMGPIPELINE_LANES": "1",
            "IMGPIPELINE_LINGER_S": "8",
            "IMGPIPELINE_ALLOW_GAPS": "false",
            "PYTHONWARNINGS": "ignore",
        }


def prepare_workspace(folder: Path) -> DemoWorkspace:
    """Recreates the folder of a demo.

    Returns:
        The workspace, empty except for Dagster's settings.

    Raises:
        ConfigurationError: The folder is not empty and does not belong to a demo.
    """
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise ConfigurationError(
            f"{folder} is not empty and does not belong to a demo.", next_step="name another folder with --folder"
        )
    shutil.rmtree(folder, ignore_errors=True)
    parts = [folder / name for name in ("store", "dagster", "pictures", "logs")]
    for part in parts:
        part.mkdir(parents=True)
    workspace = DemoWorkspace(folder, *parts)
    (folder / _MARK).touch()
    shutil.copyfile(_dagster_settings(), workspace.dagster_home / "dagster.yaml")
    return workspace


def _dagster_settings() -> Path:
    """Returns the file of Dagster's settings, in the wheel or in the checkout."""
    places = (_PACKAGE / "shipped" / "dagster.yaml", _PACKAGE.parent / "dagster.yaml")
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise ConfigurationError("Dagster's settings are not installed.", next_step="install imgpipeline again")
    return found


def enter(environment: dict[str, str]) -> None:
    """Applies the demo's settings to this process."""
    os.environ.update(environment)
