"""`IMGPIPELINE_LOG_FORMAT=json`: whatever a process writes to stderr is one JSON object per line, without secrets."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from imgpipeline_tests.cli.command import environment, interrupt, run
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.medium
CANARY = "canary-5f2c"
JSON = {"IMGPIPELINE_LOG_FORMAT": "json"}


@pytest.fixture
def away(tmp_path: Path) -> dict[str, str]:
    """A site that logs JSON, whose Kafka does not answer."""
    return {
        **JSON,
        "IMGPIPELINE_STORE_URL": (tmp_path / "store").as_uri(),
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "IMGPIPELINE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "IMGPIPELINE_KAFKA_USERNAME": "pipeline",
        "IMGPIPELINE_KAFKA_PASSWORD": CANARY,
    }


def lines_of(stderr: str) -> Iterator[dict[str, Any]]:
    for line in stderr.splitlines():
        yield json.loads(line)


def logged_by(program: str, cwd: Path, **settings: str) -> list[dict[str, Any]]:
    """Return what a Python program logs."""
    env = environment({**JSON, **settings})
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=cwd, capture_output=True, text=True, check=True)
    return list(lines_of(done.stderr))


def test_a_line_has_time_level_logger_message_and_what_it_is_about(tmp_path):
    (line,) = logged_by(
        "import logging; from imgpipeline.settings.logs import OF_PROCESS, start_logging\n"
        "start_logging('json', logging.INFO); OF_PROCESS['run'] = 'abc'\n"
        "where = {'topic': 'frames', 'partition': 1, 'offset': 7}\n"
        "logging.getLogger('imgpipeline.detect').info('at %s', 7, extra=where)",
        tmp_path,
    )
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO", "logger": "imgpipeline.detect", "message": "at 7",
        "run": "abc", "topic": "frames", "partition": 1, "offset": 7,
    }  # fmt: skip


def test_a_traceback_is_part_of_its_line(tmp_path):
    (line,) = logged_by(
        "import logging; from imgpipeline.settings.logs import start_logging\n"
        "start_logging('json', logging.INFO)\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.exception('failed')",
        tmp_path,
    )
    assert line["message"] == "failed"
    assert line["exception"].endswith("ZeroDivisionError: division by zero")


def test_the_code_server_and_dagster_in_it_log_json(tmp_path):
    lines = logged_by(
        "from dagster._utils.log import configure_loggers; configure_loggers()\n"
        "import imgpipeline.definitions, logging; logging.getLogger('dagster.code_server').info('Started')",
        tmp_path,
        IMGPIPELINE_KAFKA_TOPC="frames",
    )
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("imgpipeline.definitions", "WARNING"), ("dagster.code_server", "INFO")
    ]  # fmt: skip
    assert "IMGPIPELINE_KAFKA_TOPIC" in lines[0]["message"]


@pytest.mark.slow
def test_an_error_of_a_command_is_one_line_with_its_next_step(away, tmp_path):
    ended = run("status", env=away, cwd=tmp_path)
    *_, error = lines_of(ended.stderr)
    assert (ended.status, ended.stdout, error["level"]) == (1, "", "ERROR")
    assert " Next: " in error["message"]
    assert CANARY not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "logged"),
    [
        ("exporter --port {port}", "imgpipeline.web.exporter"),
        ("serve --port {port}", "imgpipeline.notes"),
        ("serve-ingest --port {port}", "imgpipeline.notes"),
        ("sources run sources.toml --metrics-port {port}", "imgpipeline.sources.supervisor"),
    ],
    ids=["exporter", "serve", "serve-ingest", "sources"],
)
def test_a_long_running_command_writes_nothing_but_json(command, logged, away, tmp_path):
    (tmp_path / "sources.toml").write_text(
        '[[source]]\nname = "gate"\nkind = "rtsp"\nurl = "rtsp://127.0.0.1/gate"\ncredentials_env = "CAMERA"\n'
    )
    port = free_port()

    def answers() -> bool:
        try:
            return urlopen(f"http://127.0.0.1:{port}/health").status == 200
        except HTTPError as error:
            return "sources" not in command or b"Kafka cannot be reached" in error.read()
        except OSError:
            return False

    ended = interrupt(
        *shlex.split(command.format(port=port)), env={**away, "CAMERA": f"user:{CANARY}"}, cwd=tmp_path,
        when=lambda: wait_until(answers, limit_s=60, what="the command works"),
    )  # fmt: skip
    lines = list(lines_of(ended.stderr))
    assert (ended.status, ended.stdout) == (130, "")
    assert logged in {line["logger"] for line in lines}
    assert {line["source"] for line in lines if "gate" in line["message"]} == (
        {"gate"} if "sources" in command else set()
    )
    assert CANARY not in ended.stderr
