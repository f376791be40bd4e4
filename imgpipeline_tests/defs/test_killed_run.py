"""Runs and daemons that are killed: the pipeline goes on by itself, and nothing is doubled or lost."""

import json
import os
import signal
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.defs.detection_job import PROCESS_TAG
from imgpipeline.ledger import fix_ends
from imgpipeline.objectstore import open_store
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import Site
from imgpipeline_tests.faults.child_runs import happened, variables_of
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FRAMES = 300


def ledger_end(site: Site) -> int:
    return sum(end.offset for end in fix_ends(open_store(site.settings)).values())


def process_of(site: Site) -> int | None:
    """Return the process of the live detection run, when it has noted it."""
    for record in site.runs(job="detect_frames", live=True):
        note = record.dagster_run.tags.get(PROCESS_TAG)
        if note and record.dagster_run.status is dg.DagsterRunStatus.STARTED:
            return int(json.loads(note)[-2])
    return None


def check_that_each_frame_is_there_once(site: Site) -> None:
    """Wait for the last run, and hold the whole site against the promise."""
    wait_until(lambda: not site.runs(job="detect_frames", live=True), limit_s=120, what="detection", interval_s=0.5)
    held = check(site.settings)
    assert [frame["source_kafka_offset"] for frame in held.frames] == list(range(FRAMES))


def meet(site: Site, fault: str) -> None:
    """Have a daemon's run meet a fault after its first segments."""
    site.variables |= {"IMGPIPELINE_SEGMENT_MAX_RECORDS": "5", "IMGPIPELINE_PREFETCH_IMAGES": "2"}
    announce_frames(site.settings, FRAMES)
    site.start_daemon(variables=variables_of(fault, site.home))
    wait_until(lambda: happened(site.home, fault), limit_s=180, what=fault, interval_s=0.1)
    assert 0 < ledger_end(site) < FRAMES


@pytest.mark.fault(2)
def test_kill_9_of_a_detection_run_is_made_up_for_by_the_next(site: Site) -> None:
    meet(site, "segment put done:3=kill")
    wait_until(lambda: ledger_end(site) == FRAMES, limit_s=240, what="the next run", interval_s=0.3)
    check_that_each_frame_is_there_once(site)
    statuses = sorted(record.dagster_run.status.value for record in site.runs(job="detect_frames"))
    assert statuses == ["FAILURE", "SUCCESS"]


@pytest.mark.fault(7)
def test_kill_9_of_daemon_code_server_and_run_is_made_up_for_by_the_next_daemon(site: Site) -> None:
    """Dagster goes on showing that run as started; the sensor finds its process gone, so that nothing waits."""
    meet(site, "segment put done:3=stop")
    pid = process_of(site)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.killpg(site.daemons[0].pid, signal.SIGKILL)
    site.daemons[0].kill()
    site.start_daemon()
    wait_until(lambda: ledger_end(site) == FRAMES, limit_s=240, what="the next run", interval_s=0.3)
    check_that_each_frame_is_there_once(site)


@pytest.mark.fault(6)
def test_a_run_that_hangs_is_taken_over(site: Site) -> None:
    site.variables["IMGPIPELINE_TAKEOVER_S"] = "15"
    meet(site, "segment put done:3=stop")
    pid = process_of(site)
    assert pid is not None
    wait_until(lambda: ledger_end(site) == FRAMES, limit_s=240, what="the takeover", interval_s=0.3)
    assert not Path(f"/proc/{pid}").exists()
    check_that_each_frame_is_there_once(site)
    statuses = [record.dagster_run.status.value for record in site.runs(job="detect_frames")]
    assert (statuses[0], set(statuses[1:])) == (
        "SUCCESS",
        {"FAILURE"},
    )  # on a busy machine, a slow start is taken over too
    assert "is marked as failed: it made no progress" in site.daemons[0].log_path.read_text()
