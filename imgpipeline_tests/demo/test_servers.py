"""The demo waits for its servers, and ends them cleanly."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgpipeline.demo.servers import DemoServer, dagster_server, free_port
from imgpipeline.errors import PermanentError

Start = Callable[[str], DemoServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a Python program in place of Dagster, with the port as its argument."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(program: str) -> DemoServer:
        port, log_file = free_port(), tmp_path / "dagster.log"
        with log_file.open("ab") as log:
            command = [sys.executable, "-c", program, str(port)]
            started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        return DemoServer("Dagster", started[-1], f"http://127.0.0.1:{port}", "/server_info", log_file)

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with its children, which would go on computing
        process.wait()


def test_a_start_whose_process_ends_fails_immediately(start):
    with pytest.raises(PermanentError, match="did not start: it ended with status 3"):
        start("raise SystemExit(3)").await_answer()


@pytest.mark.medium
def test_a_server_that_never_answers_fails_and_names_the_log(start):
    with pytest.raises(PermanentError, match=r"did not start: it has not answered after 1 s.*dagster\.log"):
        start("while True: pass").await_answer(limit_s=1.0)


@pytest.mark.medium
def test_a_server_that_answers_late_is_waited_for(start):
    server = start(
        "import http.server, sys, time\n"
        "time.sleep(1.5)\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), type('Handler',"
        " (http.server.BaseHTTPRequestHandler,), {'do_GET': lambda self: self.send_response(200) or self.end_headers()}"
        ")).serve_forever()"
    )
    server.await_answer(limit_s=60.0)


@pytest.mark.slow
def test_dagster_ends_cleanly_in_a_background_shell_that_ignores_sigint(tmp_path):
    """`dagster dev` handles SIGTERM as SIGINT, so with an inherited SIG_IGN only SIGKILL would end it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with dagster_server({"DAGSTER_HOME": str(tmp_path)}, tmp_path) as dagster:
            dagster.await_answer()
    finally:
        signal.signal(signal.SIGINT, before)
    assert dagster.process.returncode != -signal.SIGKILL
