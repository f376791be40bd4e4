"""A build of a day that is killed, or comes last with older ends: the whole old or the whole new table, never less."""

import signal
from datetime import date

import pytest

from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.tables import DAY_TABLES
from imgpipeline.lake.storage.manifest import covered_ends, read_manifest, read_stored
from imgpipeline.settings import Settings
from imgpipeline.stream.log import read_log
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.detect.conftest import START, LaneUnderTest
from imgpipeline_tests.faults.child_runs import child_run
from imgpipeline_tests.faults.invariant import check, check_audit, chosen, read_ledger, shown

pytestmark = pytest.mark.slow

DAY: date = START.date()
SUMMARY = f"summaries/label_counts/day={DAY}/label_counts.parquet"
OBJECTS = len(DAY_TABLES) + 1
"""What a build of the day and its summary stores, in this order."""
BUILD = f"""
from datetime import date

from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline.contracts.times import utc_now
from imgpipeline_tests.daily.builds import build_summary

store, day = open_store(load_settings()), date({DAY.year}, {DAY.month}, {DAY.day})
rebuild_day(store, day, now=utc_now())
build_summary(store, "label_counts", day, settings=load_settings(), now=utc_now())
print("built", day)
"""


def ends(lane: LaneUnderTest) -> list[int]:
    """Returns up to where each table of the day and the summary reach, in the order in which they are stored."""
    found = [read_manifest(lane.store, table.name, DAY) for table in DAY_TABLES]
    summary = read_stored(lane.store, SUMMARY)
    manifests = [*found, summary.manifest if summary else None]
    return [max(covered_ends(manifest).values(), default=0) for manifest in manifests]


def grown(lane: LaneUnderTest) -> LaneUnderTest:
    """Six frames with tables and summary, and four more that these lack."""
    lane.announce(6)
    lane.follow()
    check(lane.settings)
    lane.announce(4, first=6)
    lane.follow()
    assert ends(lane) == [6] * OBJECTS
    return lane


def check_readers(lane: LaneUnderTest) -> None:
    """What is stored is whole, and readers see all frames, before anybody builds again."""
    check_audit(lane.store, read_log(lane.settings))
    assert shown(lane.store)[0] == chosen(read_ledger(lane.store).frames)


@pytest.mark.fault(5)
@pytest.mark.parametrize(
    ("step", "stored"),
    [("table write:1", 0), ("table put done:1", 1), ("table put done:4", 4), ("table put done:5", 5)],
)
def test_fault_05_a_build_killed_at_any_step_leaves_whole_tables_and_a_rerun_converges(stored_lane, step, stored):
    lane = grown(stored_lane)
    with child_run(lane, f"{step}=kill", program=BUILD) as child:
        assert child.wait() == (-signal.SIGKILL, "")
    assert ends(lane) == [10] * stored + [6] * (OBJECTS - stored)
    check_readers(lane)

    with child_run(lane, program=BUILD) as child:
        assert child.wait() == (0, f"built {DAY}")
    assert ends(lane) == [10] * OBJECTS
    assert len(check(lane.settings).frames) == 10


@pytest.mark.fault(32)
@pytest.mark.parametrize("step", ["table put:1", "table put:3", "table put:5"])
def test_fault_32_of_two_builds_at_once_the_older_one_that_comes_last_takes_nothing_back(stored_lane, step):
    """The older one has read the ledger and sleeps before a put; the newer one builds all; then the older one wakes."""
    lane = grown(stored_lane)
    with child_run(lane, f"{step}=stop", program=BUILD) as older:
        older.wait_until_stopped()
        lane.announce(5, first=10)
        lane.follow()
        rebuild_day(lane.store, DAY, now=utc_now())
        build_summary(lane.store, "label_counts", DAY, settings=Settings(), now=utc_now())
        assert ends(lane) == [15] * OBJECTS
        older.process.send_signal(signal.SIGCONT)
        assert older.wait() == (0, f"built {DAY}")
    assert ends(lane) == [15] * OBJECTS
    check_readers(lane)
    assert len(check(lane.settings).frames) == 15
