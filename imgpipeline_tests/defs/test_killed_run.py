"""After runs and daemons are killed, the pipeline recovers by itself without losing or duplicating anything."""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import Site, ledger_end
from imgpipeline_tests.faults.child_runs import happened, variables_of
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FRAMES = 300


def wait_for_build(site: Site, status: dg.DagsterRunStatus) -> list[dg.RunRecord]:
    """Wait until builds of tables have this status, and return them."""

    def builds() -> list[dg.RunRecord]:
        runs = [record for record in site.runs() if record.dagster_run.tags.get(WORK_TAG) == "tables"]
        return [record for record in runs if record.dagster_run.status is status]

    wait_until(lambda: bool(builds()), limit_s=400, what=f"a build with status {status.value}", interval_s=0.05)
    return builds()


def check_that_each_frame_is_there_once(site: Site) -> None:
    """Wait for the last run, and check the whole site."""
    wait_until(lambda: not site.runs(job="detect_frames", live=True), limit_s=120, what="detection", interval_s=0.5)
    held = check(site.settings)
    assert [frame["source_kafka_offset"] for frame in held.frames] == list(range(FRAMES))


def meet(site: Site, fault: str) -> None:
    """Inject a fault into a daemon's run after its first segments."""
    site.variables |= {"IMGPIPELINE_SEGMENT_MAX_RECORDS": "5", "IMGPIPELINE_PREFETCH_IMAGES": "2"}
    announce_frames(site.settings, FRAMES)
    site.start_daemon(variables=variables_of(fault, site.home))
    wait_until(lambda: happened(site.home, fault), limit_s=180, what=fault, interval_s=0.1)
    assert 0 < ledger_end(site) < FRAMES


@pytest.mark.fault(2)
def test_after_kill_9_of_a_detection_run_the_next_does_its_work(site):
    meet(site, "segment put done:3=kill")
    wait_until(lambda: ledger_end(site) == FRAMES, limit_s=240, what="the next run", interval_s=0.3)
    check_that_each_frame_is_there_once(site)
    statuses = sorted(record.dagster_run.status.value for record in site.runs(job="detect_frames"))
    assert statuses == ["FAILURE", "SUCCESS"]


@pytest.mark.fault(7)
def test_after_kill_9_of_daemon_code_server_and_run_the_next_daemon_recovers(site):
    """Dagster still shows that run as started; the sensor finds that its process is gone, so nothing waits."""
    meet(site, "segment put done:3=stop")
    (pid,) = site.detection_processes()
    os.kill(pid, signal.SIGKILL)
    site.daemons[0].kill_group()
    site.start_daemon()
    wait_until(lambda: ledger_end(site) == FRAMES, limit_s=240, what="the next run", interval_s=0.3)
    check_that_each_frame_is_there_once(site)


@pytest.mark.fault(44)
def test_fault_44_a_build_killed_while_it_starts_is_marked_and_its_day_built_again(site):
    """The daemon and its code server are killed too, so no process can tell Dagster."""
    announce_frames(site.settings, 3)
    site.start_daemon()
    (killed,) = wait_for_build(site, dg.DagsterRunStatus.STARTING)
    site.daemons[0].kill_group()
    killed_at = datetime.now(UTC)
    site.start_daemon()
    (again,) = wait_for_build(site, dg.DagsterRunStatus.SUCCESS)
    assert again.create_timestamp - killed_at < timedelta(minutes=5)
    with site.instance() as instance:
        (failure,) = instance.all_logs(killed.dagster_run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "Its process is gone" in failure.message


@pytest.mark.fault(6)
def test_a_run_that_hangs_is_taken_over(site):
    site.variables["IMGPIPELINE_TAKEOVER_S"] = "15"
    meet(site, "segment put done:3=stop")
    (pid,) = site.detection_processes()
    wait_until(lambda: ledger_end(site) == FRAMES, limit_s=240, what="the takeover", interval_s=0.3)
    assert not Path(f"/proc/{pid}").exists()
    check_that_each_frame_is_there_once(site)
    statuses = [record.dagster_run.status.value for record in site.runs(job="detect_frames")]
    assert (statuses[0], set(statuses[1:])) == (
        "SUCCESS",
        {"FAILURE"},
    )  # on a busy machine, a slow start is taken over too
    assert "as failed: it made no progress" in site.daemons[0].log_path.read_text()
