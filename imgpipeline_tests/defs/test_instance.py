"""The first commands of a user in a fresh checkout: `dagster dev`, `dagster definitions validate`, `dg check defs`."""

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from imgpipeline_tests.defs.site import PROGRAMS, REPOSITORY, Site, make_site
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.processes import ServerProcess
from imgpipeline_tests.servers.waiting import wait_until

SENSORS = """{ sensorsOrError(
  repositorySelector: { repositoryName: "__repository__", repositoryLocationName: "imgpipeline" }
) { ... on Sensors { results { name sensorState { status } } } } }"""


@pytest.fixture
def folder(tmp_path: Path) -> Site:
    """A folder with the files of the repository's top level, without any server."""
    site = make_site(tmp_path / "checkout", {"IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"})
    for name in ("workspace.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, site.home)
    for name in ("imgpipeline", "models"):
        (site.home / name).symlink_to(REPOSITORY / name)
    return site


def ask(port: int, query: str) -> str | None:
    """Ask the web server by GraphQL; None while it does not answer."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own URL
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


@pytest.mark.slow
def test_definitions_are_valid(folder):
    folder.run("dagster", "definitions", "validate")


@pytest.mark.slow
def test_dg_finds_the_same(folder):
    done = folder.run("dg", "check", "defs")
    assert "All definitions loaded successfully" in done.stdout + done.stderr
    listed = folder.run("dg", "list", "defs", "--json").stdout
    for name in ("frame_metadata", "frames", "detections", "label_counts", "frames_sensor", "detect_frames"):
        assert f'"{name}"' in listed


@pytest.mark.slow
def test_dev_starts_as_it_is_with_its_sensors_running(folder):
    """DAGSTER_HOME is not set; without Kafka, the sensor skips with a message instead of failing."""
    port = free_port()
    environment = {name: value for name, value in folder.environment.items() if name != "DAGSTER_HOME"}
    environment |= {"PWD": str(folder.home), "VIRTUAL_ENV": str(PROGRAMS.parent)}
    command = ["env", "-C", folder.home, PROGRAMS / "dagster", "dev", "--port", str(port)]
    log_path = folder.home / "dev.log"
    dev = ServerProcess("dagster dev", command, log_path, environment=environment)
    try:
        dev.start(lambda: '"frames_sensor"' in (ask(port, SENSORS) or ""), limit_s=90)
        sensors = json.loads(ask(port, SENSORS) or "")["data"]["sensorsOrError"]["results"]
        assert {s["name"]: s["sensorState"]["status"] for s in sensors} == {
            "frames_sensor": "RUNNING",
            "keep_tables_current": "RUNNING",
            "source_silence": "RUNNING",
            "events_sensor": "STOPPED",  # on as soon as there are rules
        }
        wait_until(lambda: "Kafka" in log_path.read_text(), limit_s=60, what="the sensor's word on Kafka")
        assert "Traceback" not in log_path.read_text()
    finally:
        dev.stop()
        dev.kill_group()
