"""Runs and daemons that are killed: the pipeline goes on by itself, and nothing is doubled or lost."""

import json
import os
import signal
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.defs.detection_job import PROCESS_TAG
from imgpipeline.ledger import fix_ends, list_segments, read_segments
from imgpipeline.objectstore import open_store
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import Site
from imgpipeline_tests.servers.waiting import wait_until

FRAMES = 300


def ledger_end(site: Site) -> int:
    return sum(end.offset for end in fix_ends(open_store(site.settings)).values())


def offsets_in_ledger(site: Site) -> list[tuple[int, int]]:
    """Return partition and offset of every frame in the ledger, in the order of the chains."""
    store = open_store(site.settings)
    found: list[tuple[int, int]] = []
    for chain, end in fix_ends(store).items():
        for segment in read_segments(store, chain, list_segments(store, chain, 0, end.offset)):
            found += [
                (chain.partition, json.loads(line)["frame"]["source_kafka_offset"])
                for line in segment.body.splitlines()
            ]
    return found


def process_of(site: Site) -> int | None:
    """Return the process of the live detection run, when it has noted it."""
    for record in site.runs(job="detect_frames", live=True):
        note = record.dagster_run.tags.get(PROCESS_TAG)
        if note and record.dagster_run.status is dg.DagsterRunStatus.STARTED:
            return int(json.loads(note)[-2])
    return None


def audit(site: Site) -> None:
    """Have the whole ledger checked by the command that users have."""
    done = site.run("python", "-m", "imgpipeline.cli", "audit", "--full", "--json", check=False)
    verdict = json.loads(done.stdout)
    assert verdict["ok"], verdict
    (partition,) = verdict["partitions"]
    assert (partition["frames"], partition["missing"], partition["overlapping"]) == (FRAMES, 0, 0)


@pytest.fixture
def busy_site(site: Site) -> Site:
    """A site whose daemon works on a backlog, in small segments."""
    site.variables |= {"IMGPIPELINE_SEGMENT_MAX_RECORDS": "5", "IMGPIPELINE_PREFETCH_IMAGES": "2"}
    announce_frames(site.settings, FRAMES)
    site.start_daemon()
    wait_until(lambda: ledger_end(site) >= 10, limit_s=90, what="the first segments", interval_s=0.1)
    return site


def test_kill_9_of_a_detection_run_is_made_up_for_by_the_next(busy_site: Site) -> None:
    pid = process_of(busy_site)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert ledger_end(busy_site) < FRAMES, "the run was over before it was killed"
    wait_until(lambda: ledger_end(busy_site) == FRAMES, limit_s=120, what="the next run", interval_s=0.3)
    assert offsets_in_ledger(busy_site) == [(0, n) for n in range(FRAMES)]
    busy_site.wait_for_runs_to_end()
    audit(busy_site)
    statuses = sorted(record.dagster_run.status.value for record in busy_site.runs(job="detect_frames"))
    assert statuses == ["FAILURE", "SUCCESS"]


def test_kill_9_of_daemon_code_server_and_run_is_made_up_for_by_the_next_daemon(busy_site: Site) -> None:
    """Dagster goes on showing that run as started; the sensor finds its process gone, so that nothing waits."""
    pid = process_of(busy_site)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.killpg(busy_site.daemons[0].pid, signal.SIGKILL)
    busy_site.daemons[0].kill()
    end = ledger_end(busy_site)
    assert end < FRAMES, "the run was over before it was killed"
    busy_site.start_daemon()
    wait_until(lambda: ledger_end(busy_site) > end, limit_s=60, what="the next run's first segment", interval_s=0.3)
    wait_until(lambda: ledger_end(busy_site) == FRAMES, limit_s=120, what="the next run", interval_s=0.3)
    assert offsets_in_ledger(busy_site) == [(0, n) for n in range(FRAMES)]
    busy_site.wait_for_runs_to_end()
    audit(busy_site)


def test_a_run_that_hangs_is_taken_over(site: Site) -> None:
    site.variables |= {
        "IMGPIPELINE_SEGMENT_MAX_RECORDS": "5",
        "IMGPIPELINE_PREFETCH_IMAGES": "2",
        "IMGPIPELINE_TAKEOVER_S": "6",
    }
    announce_frames(site.settings, FRAMES)
    site.start_daemon()
    wait_until(lambda: ledger_end(site) >= 10, limit_s=90, what="the first segments", interval_s=0.1)
    pid = process_of(site)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert ledger_end(site) < FRAMES, "the run was over before it was stopped"
    wait_until(lambda: ledger_end(site) == FRAMES, limit_s=60, what="the takeover", interval_s=0.3)
    assert not Path(f"/proc/{pid}").exists()
    site.wait_for_runs_to_end()
    assert offsets_in_ledger(site) == [(0, n) for n in range(FRAMES)]
    audit(site)
    statuses = [record.dagster_run.status.value for record in site.runs(job="detect_frames")]
    assert statuses == ["SUCCESS", "FAILURE"]
    assert "is marked as failed: it made no progress" in site.daemons[0].log_path.read_text()
