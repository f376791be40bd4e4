"""Several lanes with a real daemon: they share the work and the slots, and their number may change at any time."""

import dagster as dg
import pytest

from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import Site, ledger_end
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.slow

PATIENCE_S = 280.0
PARTITIONS = 8
SOURCES = 24
"""So many that all partitions get some."""


def announce_everywhere(site: Site, name: str) -> None:
    """Announce two frames of each of many sources."""
    for number in range(SOURCES):
        announce_frames(site.settings, 2, source=f"{name}-{number}")


def wait_for(site: Site, end: int) -> None:
    wait_until(lambda: ledger_end(site) == end, limit_s=PATIENCE_S, what=f"the ledger to reach {end}", interval_s=0.5)


def started_lanes(site: Site) -> set[str]:
    records = site.runs(job="detect_frames", live=True)
    started = [r.dagster_run for r in records if r.dagster_run.status is dg.DagsterRunStatus.STARTED]
    return {run.tags["imgpipeline/lane"] for run in started}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("topic", [PARTITIONS], indirect=True)
def test_four_lanes_share_two_slots_and_drain(site):
    """A lane that waits for a slot is neither taken over nor asked for twice."""
    file = site.home / "dagster.yaml"
    file.write_text(file.read_text().replace("limit: 8", "limit: 2"))
    # A run waits longer for more frames than the next one takes to start, so that two are seen side by side.
    site.variables |= {"IMGPIPELINE_LANES": "4", "IMGPIPELINE_TAKEOVER_S": "60", "IMGPIPELINE_LINGER_S": "15"}
    announce_everywhere(site, "camera")
    most: set[str] = set()
    site.start_daemon()

    def is_drained() -> bool:
        nonlocal most
        now = started_lanes(site)
        assert len(now) <= 2
        most = max(most, now, key=len)
        return ledger_end(site) == 2 * SOURCES

    wait_until(is_drained, limit_s=PATIENCE_S, what="all four lanes to have had their turn", interval_s=0.3)
    site.wait_for_runs_to_end()
    assert len(most) == 2, "no two lanes were followed at the same time"
    runs = [record.dagster_run for record in site.runs(job="detect_frames")]
    assert {run.tags["imgpipeline/lane"] for run in runs} == {f"{n}/4" for n in range(4)}
    assert all(run.status is dg.DagsterRunStatus.SUCCESS for run in runs)
    assert len(check(site.settings).frames) == 2 * SOURCES


@pytest.mark.timeout(600)
@pytest.mark.fault(8)
@pytest.mark.parametrize("topic", [PARTITIONS], indirect=True)
def test_the_number_of_lanes_may_change_while_runs_live(site):
    """Runs of two lanes continue while another daemon starts runs of three; the first to put an offset wins."""
    site.variables |= {"IMGPIPELINE_LANES": "2", "IMGPIPELINE_LINGER_S": "25"}
    announce_everywhere(site, "before")
    site.start_daemon()
    wait_until(lambda: started_lanes(site) == {"0/2", "1/2"}, limit_s=PATIENCE_S, what="the runs of two lanes")
    site.variables |= {"IMGPIPELINE_LANES": "3"}
    site.start_daemon()
    site.daemons[0].kill()
    announce_everywhere(site, "between")
    wait_for(site, 4 * SOURCES)
    site.wait_for_runs_to_end()
    announce_everywhere(site, "after")
    wait_for(site, 6 * SOURCES)
    lanes = {record.dagster_run.tags["imgpipeline/lane"] for record in site.runs(job="detect_frames")}
    assert lanes >= {"0/2", "1/2"}
    assert lanes & {"0/3", "1/3", "2/3"}
    assert len(check(site.settings).frames) == 6 * SOURCES
