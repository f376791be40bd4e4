"""Runs of Dagster that end between a segment and its event: the day is found in the store, and its tables are built."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import Site, ledger_end
from imgpipeline_tests.defs.test_detection_job import EXECUTE, reported
from imgpipeline_tests.faults.child_runs import happened, variables_of
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.waiting import wait_until

LONG_PAST = datetime(2024, 2, 29, 23, 59, 30, tzinfo=UTC)
DAY = "2024-02-29"
FIRST, REST = 5, 40


def execute(site: Site, fault: str) -> None:
    """Have a detection run killed at a step, with its events lost."""
    variables = site.variables.copy()
    site.variables |= variables_of(fault, site.home)
    done = site.run(*EXECUTE, check=False)
    site.variables = variables
    assert done.returncode != 0
    assert happened(site.home, fault)


def tables_of(site: Site, day: str) -> set[str]:
    """Return which tables Dagster has seen built for a day."""
    with site.instance() as instance:
        return {
            asset
            for asset in ("frames", "detections", "label_counts")
            if day in instance.get_materialized_partitions(dg.AssetKey(asset))
        }


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.fault(42)
@pytest.mark.fault(4)
@pytest.mark.parametrize(
    ("fault", "rest"),
    [("report stored:1=kill", REST), ("report stored:1=kill", 0), ("segment put done:1=kill", 0)],
    ids=["frames are left", "none is left", "none is left, killed right behind the segment"],
)
def test_fault_42_a_day_whose_event_was_lost_is_found_in_the_store_and_its_tables_are_built(site, fault, rest):
    site.variables |= {"IMGPIPELINE_SEGMENT_MAX_RECORDS": str(FIRST), "IMGPIPELINE_PREFETCH_IMAGES": "2"}
    announce_frames(site.settings, FIRST, start=LONG_PAST)
    announce_frames(site.settings, rest)
    execute(site, fault)
    assert ledger_end(site) >= FIRST
    assert (ledger_end(site) == FIRST + rest) == (rest == 0)
    assert reported(site) == []

    site.start_daemon()
    wait_until(lambda: ledger_end(site) == FIRST + rest, limit_s=240, what="the rest of the frames", interval_s=0.5)
    wait_until(lambda: len(tables_of(site, DAY)) == 3, limit_s=240, what="the tables of that day", interval_s=0.5)
    check(site.settings)
