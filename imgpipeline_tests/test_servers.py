"""The real servers of the tests report why they do not start, and never outlive their test process."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from imgpipeline_tests.servers.processes import is_gone
from imgpipeline_tests.servers.programs import CACHE_HOME
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.slow


OWNER = """
import pathlib, sys, time
from imgpipeline_tests.servers.{module} import {name}
with {call} as server:
    print(server.process.pid, server.process.log_path.parent, flush=True)
    time.sleep(600)
"""


@pytest.mark.servers
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("kafka_broker", "KafkaBroker", "KafkaBroker(pathlib.Path(sys.argv[1]))"),
        ("opensearch", "OpenSearchServer", "OpenSearchServer(pathlib.Path(sys.argv[1]))"),
        ("s3_server", "S3Server", "S3Server(pathlib.Path(sys.argv[1]))"),
        ("postgres_server", "PostgresServer", "PostgresServer()"),
        ("toxiproxy", "ToxiproxyServer", "ToxiproxyServer(pathlib.Path(sys.argv[1]))"),
    ],
)
def test_a_server_ends_with_its_test_process_even_by_sigkill(tmp_path, module, name, call):
    script = OWNER.format(module=module, name=name, call=call)
    installed = {**os.environ, "XDG_CACHE_HOME": str(CACHE_HOME)}
    command = [sys.executable, "-c", script, tmp_path]
    with subprocess.Popen(command, env=installed, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        line = owner.stdout.readline()
        owner.send_signal(signal.SIGKILL)
    if not line:
        pytest.skip(f"{name} cannot be started here. Install it with: make servers")
    pid, work_dir = line.split()
    wait_until(lambda: is_gone(int(pid)), limit_s=60, what=f"{name} to end with its owner")
    shutil.rmtree(work_dir, ignore_errors=True)  # its owner could not; that of PostgreSQL is not below tmp_path


def test_a_server_that_ends_at_its_start_is_reported_with_its_log(s3, tmp_path):
    second = S3Server(tmp_path)
    second.port = s3.port
    second.process = type(second.process)("versitygw", second.command(), tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"(?s)versitygw ended with status .*address already in use"):
        second.start()


def test_the_data_folder_holds_pictures(shared_data):
    assert (shared_data / "images" / "dog.jpg").stat().st_size > 0


@pytest.mark.parametrize(("required", "outcome", "status"), [("0", "1 skipped", 0), ("1", "1 error", 1)])
def test_a_missing_server_skips_its_tests_and_fails_them_where_servers_are_required(
    tmp_path, required, outcome, status
):
    this_test = f"{__file__}::{test_a_server_that_ends_at_its_start_is_reported_with_its_log.__name__}"
    nothing_installed = {"XDG_CACHE_HOME": str(tmp_path), "IMGPIPELINE_REQUIRE_SERVERS": required}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rsf", this_test]
    answer = subprocess.run(
        command, env={**os.environ, **nothing_installed}, capture_output=True, text=True, check=False
    )
    assert outcome in answer.stdout
    assert "Install it with: make servers" in answer.stdout
    assert answer.returncode == status
