"""The environment takes precedence over `.env` in Dagster's processes too, although Dagster does the opposite."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from imgpipeline_tests.defs.site import Site, make_site
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.processes import ServerProcess
from imgpipeline_tests.servers.waiting import wait_until

PROBE = """
import json, os
import dagster as dg
from imgpipeline.settings import load_settings

def note(process):
    settings = load_settings()
    seen = {"topic": settings.kafka_topic, "group": settings.kafka_group, "user": settings.kafka_username}
    with open("seen.jsonl", "a") as file:
        file.write(json.dumps([process, seen, os.environ.get("SITE_NAME")]) + "\\n")

@dg.op
def show() -> None:
    note("run")

@dg.job
def probe() -> None:
    show()

@dg.sensor(job=probe, minimum_interval_seconds=5, default_status=dg.DefaultSensorStatus.RUNNING)
def once(context: dg.SensorEvaluationContext) -> dg.RunRequest:
    note("sensor")
    return dg.RunRequest(run_key=load_settings().kafka_group)

note("code location")
defs = dg.Definitions(jobs=[probe], sensors=[once])
"""
FILE = "IMGPIPELINE_KAFKA_TOPIC=file\nimgpipeline_kafka_group=file\nKAFKA_USERNAME=file\nSITE_NAME=file\n"
GIVEN = {"IMGPIPELINE_KAFKA_TOPIC": "given", "KAFKA_USERNAME": "given"}
EXPECTED = {"topic": "given", "group": "file", "user": "given"}


@pytest.fixture
def folder(tmp_path: Path) -> Site:
    """A folder with an `.env` that contradicts the environment."""
    site = make_site(tmp_path / "site", {})
    site.variables = dict(GIVEN)
    (site.home / "probe.py").write_text(PROBE)
    (site.home / ".env").write_text(FILE)
    return site


def seen(site: Site) -> list[tuple[str, Mapping[str, object], str | None]]:
    """The settings that each process had: its name, the settings, and a variable of another program."""
    file = site.home / "seen.jsonl"
    return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.slow
def test_the_environment_wins_in_job_execute_and_variables_that_only_the_file_has_stay(folder):
    folder.run("dagster", "job", "execute", "-f", "probe.py", "-j", "probe")
    assert {name for name, _, _ in seen(folder)} == {"code location", "run"}
    assert [settings for _, settings, _ in seen(folder)] == [EXPECTED] * len(seen(folder))
    assert {other for _, _, other in seen(folder)} == {"file"}


@pytest.mark.slow
def test_the_environment_wins_in_dev_and_its_runs_and_a_changed_file_reaches_both(folder):
    """A launched run has the environment of the code server that executes it, not that of `job launch`."""
    command: list[str | Path] = [
        "env",
        "-C",
        folder.home,
        folder.programs / "dagster",
        "dev",
        "-f",
        "probe.py",
        "-p",
        str(free_port()),
    ]
    dev = ServerProcess("dagster dev", command, folder.home / "dev.log", environment=folder.environment)
    try:
        dev.start(lambda: runs(folder) == 1, limit_s=120)
        folder.variables["IMGPIPELINE_KAFKA_TOPIC"] = "another"
        folder.run("dagster", "job", "launch", "-f", "probe.py", "-j", "probe")
        wait_until(lambda: runs(folder) == 2, limit_s=60, what="the launched run")
        of_dev = [(name, settings) for name, settings, _ in seen(folder) if name in ("sensor", "run")]
        assert of_dev == [(name, EXPECTED) for name, _ in of_dev]
        (folder.home / ".env").write_text(FILE.replace("group=file", "group=changed"))
        changed = {**EXPECTED, "group": "changed"}
        wait_until(lambda: processes(folder, changed) >= {"sensor", "run"}, limit_s=60, what="the changed file in both")
    finally:
        dev.stop()


def runs(site: Site) -> int:
    """How many runs have noted their settings."""
    return sum(name == "run" for name, _, _ in seen(site))


def processes(site: Site, settings: Mapping[str, object]) -> set[str]:
    """The processes that had these settings."""
    return {name for name, had, _ in seen(site) if had == settings}
