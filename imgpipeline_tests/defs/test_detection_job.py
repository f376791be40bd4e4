"""The detection job, started by Dagster's commands in separate processes."""

import json
import multiprocessing
import os
import signal
import subprocess
import time
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorStatus

from imgpipeline.defs.detection_job import on_stop_signal
from imgpipeline_tests.defs.frames import START, announce_frames
from imgpipeline_tests.defs.site import MODULE, PROGRAMS, Site, ledger_end
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.waiting import wait_until

BACKLOG = 1500
"""More frames than a run works on before it is told to stop."""
SMALL_STEPS = {"IMGPIPELINE_SEGMENT_MAX_RECORDS": "10", "IMGPIPELINE_PREFETCH_IMAGES": "4"}
EXECUTE = ("dagster", "job", "execute", "-m", MODULE, "-j", "detect_frames")


def reported(site: Site) -> list[dg.AssetMaterialization]:
    """Return the materializations of `frame_metadata`, oldest first."""
    with site.instance() as instance:
        records = instance.fetch_materializations(dg.AssetKey("frame_metadata"), limit=1000, ascending=True).records
    return [record.asset_materialization for record in records if record.asset_materialization]


@pytest.mark.slow
@pytest.mark.parametrize("topic", [3], indirect=True)
def test_without_configuration_it_follows_all_partitions_and_reports_each_day(site):
    for n in range(4):
        announce_frames(site.settings, 3, start=START + timedelta(days=n % 2), source=f"camera-{n}")
    site.run(*EXECUTE)
    assert ledger_end(site) == 12
    last = {said.partition: said for said in reported(site)}
    assert sorted(last) == ["2026-03-01", "2026-03-02"]
    for said in last.values():
        assert said.metadata["lag"].value == 0
        assert {"frames_per_s", "latency_p50_s", "latency_p95_s"} <= said.metadata.keys()
    (run,) = site.runs()
    assert run.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    assert run.dagster_run.tags["imgpipeline/lane"] == "0/1"
    assert run.dagster_run.tags["imgpipeline/work"] == "detection"


@pytest.mark.slow
def test_a_failure_shows_the_message_of_a_known_error_without_a_traceback(site):
    site.variables["IMGPIPELINE_KAFKA_TOPIC"] = "no-such-topic"
    done = site.run(*EXECUTE, check=False)
    assert done.returncode != 0
    (run,) = site.runs()
    with site.instance() as instance:
        (failure,) = (
            entry.dagster_event
            for entry in instance.all_logs(run.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        )
    data = failure.step_failure_data
    assert "There is no topic 'no-such-topic'" in str(data.user_failure_data.description)
    assert "imgpipeline topics create" in str(data.user_failure_data.description)
    assert "kafka.errors" not in done.stdout + done.stderr
    assert site.variables["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


@pytest.mark.slow
def test_its_logs_as_json_name_the_run_and_the_topic(site):
    site.variables["IMGPIPELINE_LOG_FORMAT"] = "json"
    site.variables["IMGPIPELINE_KAFKA_TOPIC"] = f"{site.settings.kafka_topic},no-such-topic"
    done = site.run(*EXECUTE)
    (run,) = site.runs()
    (line,) = (json.loads(line) for line in done.stderr.splitlines() if "A topic is left out" in line)
    assert (line["run"], line["topic"]) == (run.dagster_run.run_id, "no-such-topic")
    assert line["logger"] == "imgpipeline.detect.run"


def check_that_the_rest_is_left(site: Site) -> None:
    """Assert that a stopped run has committed its finished work, and that the next run does the rest."""
    held = check(site.settings, drained=False)
    assert 0 < len(held.frames) < BACKLOG
    with site.instance() as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("frame_metadata")) == {str(START.date())}
    site.run(*EXECUTE)
    assert len(check(site.settings).frames) == BACKLOG


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_commits_finished_work(site, number):
    site.variables |= SMALL_STEPS
    announce_frames(site.settings, BACKLOG)
    with (site.home / "execute.log").open("w") as log:
        process = subprocess.Popen(
            [PROGRAMS / EXECUTE[0], *EXECUTE[1:]], env=site.environment, cwd=site.home, stdout=log, stderr=log
        )
        try:
            wait_until(lambda: ledger_end(site) > 0, limit_s=60, what="a segment", interval_s=0.1)
            process.send_signal(number)
            process.wait(120)
        finally:
            process.kill()
    (run,) = site.runs()
    assert run.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    assert "ended by stopped" in (site.home / "execute.log").read_text()
    check_that_the_rest_is_left(site)


def hang_when_told_to_stop() -> None:
    with on_stop_signal(lambda: None, limit_s=0.1):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)


def test_a_run_that_hangs_when_it_is_stopped_is_ended_by_the_system():
    process = multiprocessing.get_context("fork").Process(target=hang_when_told_to_stop)
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGALRM


@pytest.mark.slow
def test_a_run_that_is_terminated_in_the_ui_commits_finished_work(site):
    """Uses the call behind the UI's button, which asks the code server to end the process of the run."""
    site.variables |= SMALL_STEPS
    announce_frames(site.settings, BACKLOG)
    site.start_daemon()
    wait_until(lambda: ledger_end(site) > 0, limit_s=180, what="a segment", interval_s=0.1)
    (run,) = site.runs(job="detect_frames", live=True)
    with site.instance() as instance:
        (state,) = (s for s in instance.all_instigator_state() if s.instigator_name == "frames_sensor")
        instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))  # or the rest would not be left
        assert instance.run_coordinator.cancel_run(run.dagster_run.run_id)
    site.wait_for_runs_to_end()
    (run,) = site.runs(job="detect_frames")
    assert run.dagster_run.status is dg.DagsterRunStatus.CANCELED
    check_that_the_rest_is_left(site)
