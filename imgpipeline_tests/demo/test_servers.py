"""The demo waits for its servers while they make progress, and ends them cleanly."""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgpipeline.demo.servers import DemoServer, Patience, dagster_server, free_port, viewer_server
from imgpipeline.errors import PermanentError
from imgpipeline_tests.servers.waiting import wait_until

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


@pytest.mark.medium
def test_a_start_without_progress_fails_and_names_the_log(start: Start):
    server = start("import time; time.sleep(600)")
    with pytest.raises(PermanentError, match=r"did not start: there has been no progress for 1 s.*dagster\.log"):
        server.await_answer(quiet_limit_s=1.0)


def test_a_start_whose_process_ends_fails_immediately(start: Start):
    with pytest.raises(PermanentError, match="did not start: it ended with status 3"):
        start("raise SystemExit(3)").await_answer()


@pytest.mark.medium
def test_a_start_that_never_ends_fails_after_the_longest_time(start: Start):
    with pytest.raises(PermanentError, match="not finished after 1 s"):
        start("while True: pass").await_answer(quiet_limit_s=300.0, longest_s=1.0)


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])",
        "import itertools, time\nfor n in itertools.count(): print(n, flush=True); time.sleep(0.01)",
    ],
    ids=["computes", "a child computes", "prints"],
)
def test_computing_and_printing_count_as_progress(start: Start, program: str):
    server = start(program)
    for _ in range(3):
        before = server.signs_of_life()
        wait_until(lambda before=before: server.signs_of_life() != before, limit_s=60, what="progress")


@pytest.mark.medium
def test_a_server_that_answers_late_is_waited_for(start: Start):
    server = start(
        "import http.server, sys, time\n"
        "for _ in range(15): print('loading', flush=True); time.sleep(0.1)\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), type('Handler',"
        " (http.server.BaseHTTPRequestHandler,), {'do_GET': lambda self: self.send_response(200) or self.end_headers()}"
        ")).serve_forever()"
    )
    server.await_answer(quiet_limit_s=60.0)


@pytest.mark.slow
def test_dagster_ends_cleanly_in_a_background_shell_that_ignores_sigint(tmp_path: Path):
    """`dagster dev` handles SIGTERM as SIGINT, so with an inherited SIG_IGN only SIGKILL would end it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with dagster_server({"DAGSTER_HOME": str(tmp_path)}, tmp_path) as dagster:
            dagster.await_answer()
    finally:
        signal.signal(signal.SIGINT, before)
    assert dagster.process.returncode != -signal.SIGKILL


@pytest.mark.slow
def test_the_viewer_answers_and_ends_with_its_context(tmp_path: Path):
    store = {"IMGPIPELINE_STORE_URL": tmp_path.as_uri()}
    with viewer_server(store, tmp_path) as viewer:
        viewer.await_answer()
        with urllib.request.urlopen(f"{viewer.url}/", timeout=60) as page:  # noqa: S310 - our own server
            assert "<html" in page.read().decode()
    assert viewer.process.returncode == 128 + signal.SIGINT


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_patience_lasts_while_there_is_progress():
    clock = Clock()
    patience = Patience(60.0, 10_000.0, clock)
    for sign in range(100):
        clock.now_s += 59.0
        assert patience.why_over(sign) is None


def test_patience_ends_without_progress():
    clock = Clock()
    patience = Patience(60.0, 10_000.0, clock)
    assert patience.why_over("moved") is None
    clock.now_s += 59.9
    assert patience.why_over("moved") is None
    clock.now_s += 0.1
    assert patience.why_over("moved") == "there has been no progress for 60 s"


def test_patience_ends_after_the_longest_time_even_with_progress():
    clock = Clock()
    patience = Patience(60.0, 100.0, clock)
    clock.now_s = 50.0
    assert patience.why_over(1) is None
    clock.now_s = 100.0
    assert patience.why_over(2) == "it has not finished after 100 s"
