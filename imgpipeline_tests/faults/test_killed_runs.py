"""Detection runs that are killed or stopped at each step of a commit: the next one loses and doubles nothing.

Each fault is met over S3 and over a local folder, each step over at least one of them. Every run is compared with a run
over the same records that nothing happened to.
"""

import signal
from functools import partial

import pytest

from imgpipeline.contracts.keys import DAY_INDEX, RAW_RECORDS
from imgpipeline.faultpoints import note_of
from imgpipeline.ledger.dead_letters import remove_orphans
from imgpipeline_tests.detect.conftest import LaneUnderTest, message
from imgpipeline_tests.detect.test_lane_faults import ledger_objects
from imgpipeline_tests.faults.child_runs import FOLLOW, child_run, content_of, undisturbed
from imgpipeline_tests.faults.invariant import check, raw_of
from imgpipeline_tests.stream.group import group_offsets

pytestmark = pytest.mark.slow

KILLED = -signal.SIGKILL
RECORDS = 46
PATIENCE_S = 60.0


over = partial(pytest.mark.parametrize, ("stored_lane", "step"), indirect=["stored_lane"])


@pytest.fixture
def busy_lane(stored_lane: LaneUnderTest) -> LaneUnderTest:
    """A backlog of frames and dead letters of two days, to be taken in small segments."""
    stored_lane.announce(20)
    stored_lane.send(b"no message", message(image_path="images/nothing/here.jpg"))
    stored_lane.announce(20, first=20, source="other")
    stored_lane.send(
        *[message(image_path="images/camera/one.jpg", timestamp=f"2026-03-02T12:00:0{n}Z") for n in "1234"]
    )
    return stored_lane.with_settings(segment_max_records=5, prefetch_images=4)


def die(lane: LaneUnderTest, plan: str) -> None:
    """Have a run killed at a step."""
    with child_run(lane, plan) as run:
        status, said = run.wait(PATIENCE_S)
    assert status == KILLED, f"the run was not killed at {plan}: it said {said!r}"


def check_the_next_run(lane: LaneUnderTest) -> None:
    """Follow the lane again, and assert that what is there is what one undisturbed run would have left."""
    before = ledger_objects(lane)
    report = lane.follow()
    assert report.lag == 0
    assert before.items() <= ledger_objects(lane).items(), "a segment was changed or removed"
    held = check(lane.settings)
    assert sum(held.ends.values()) == RECORDS
    assert content_of(held) == undisturbed(lane)


@pytest.mark.fault(1)
def test_fault_1_a_run_killed_before_it_fetched_anything_leaves_nothing(busy_lane):
    die(busy_lane, "run begin=kill")
    assert ledger_objects(busy_lane) == {}
    assert list(busy_lane.store.list_objects(DAY_INDEX)) == []
    check_the_next_run(busy_lane)


@pytest.mark.fault(2)
@over([("s3", "look:13"), ("folder", "look done:20")])
def test_fault_2_the_work_of_a_run_killed_during_inference_is_done_by_the_next(busy_lane, step):
    die(busy_lane, f"{step}=kill")
    check_the_next_run(busy_lane)


@pytest.mark.fault(3)
@over([("s3", "index put:1"), ("s3", "index put done:2"), ("s3", "segment put:1"), ("folder", "index put done:2")])
def test_fault_3_a_run_killed_before_its_segment_leaves_at_most_an_index_that_names_none(busy_lane, step):
    die(busy_lane, f"{step}=kill")
    expected = 0 if step == "index put:1" else 1
    assert len(list(busy_lane.store.list_objects(DAY_INDEX))) >= expected
    check(busy_lane.settings, drained=False)
    check_the_next_run(busy_lane)


@pytest.mark.fault(67)
@over([("s3", "raw record put done:2"), ("folder", "raw record put done:2")])
@pytest.mark.parametrize("is_repeated", [True, False], ids=["same outcome", "other outcome"])
def test_fault_67_the_raw_record_of_a_run_killed_before_its_segment_is_used_by_the_next_or_removed(
    busy_lane, step, is_repeated
):
    die(busy_lane.with_settings(segment_max_records=RECORDS, commit_interval_s=PATIENCE_S), f"{step}=kill")
    stored = list(busy_lane.store.list_objects(RAW_RECORDS))
    assert len(stored) == 2
    assert check(busy_lane.settings, drained=False).dead_letters == []
    assert remove_orphans(busy_lane.store) == 0, "the next run may need them"
    if not is_repeated:
        busy_lane.put_image("images/nothing/here.jpg")
    check_the_next_run(busy_lane)

    assert remove_orphans(busy_lane.store) == (0 if is_repeated else 1)
    letters = check(busy_lane.settings).dead_letters
    assert [raw_of(busy_lane.store, letter)[:10] for letter in letters] == [b"no message", b'{"source":'][
        : len(letters)
    ]
    left = list(busy_lane.store.list_objects(RAW_RECORDS))
    assert len(left) == len(letters) == (2 if is_repeated else 1)
    assert set(left) <= set(stored), "written once"


@pytest.mark.fault(4)
@over(
    [
        ("s3", "segment put done:1"),
        ("s3", "segment put done:4"),
        ("s3", "group told:1"),
        ("s3", "group told done:1"),
        ("folder", "segment put done:1"),
        ("folder", "group told:1"),
    ]
)
def test_fault_4_after_a_run_killed_after_its_segment_the_next_continues_there(busy_lane, step):
    die(busy_lane, f"{step}=kill")
    held = check(busy_lane.settings, drained=False)
    assert sum(held.ends.values()) > 0
    if step.endswith(":1"):
        told = group_offsets(busy_lane.settings, [busy_lane.partition()])
        assert bool(told) == (step == "group told done:1")
    check_the_next_run(busy_lane)
    days = {day.isoformat() for report in busy_lane.reports for day in report.days}
    assert days >= {"2026-03-01", "2026-03-02"}, "what may not have been reported is reported by the next run"


@pytest.mark.fault(4)
def test_fault_4_runs_that_die_one_after_the_other_at_every_step_still_get_on(busy_lane):
    """Each run dies one step later than the one before; in the end everything is there once."""
    steps = ["run begin", "look", "index put", "index put done", "segment put", "segment put done", "group told"]
    for step in steps:
        die(busy_lane, f"{step}:1=kill")
    check_the_next_run(busy_lane)


@pytest.mark.fault(6)
@over([("s3", "look:8"), ("s3", "segment put:2"), ("s3", "segment put done:2"), ("folder", "segment put:2")])
def test_fault_6_a_run_that_slept_while_another_committed_drops_its_work(busy_lane, tmp_path, step):
    with child_run(busy_lane, f"{step}=stop", once=tmp_path) as sleeper:
        sleeper.wait_until_stopped(PATIENCE_S)
        assert note_of(tmp_path, f"{step}=stop").exists()
        busy_lane.follow()
        before = ledger_objects(busy_lane)
        held = check(busy_lane.settings)
        sleeper.process.send_signal(signal.SIGCONT)
        status, said = sleeper.wait(PATIENCE_S)
    assert (status, said) == (0, "superseded 0")
    assert ledger_objects(busy_lane) == before
    assert content_of(held) == undisturbed(busy_lane)
    check(busy_lane.settings)


DIE_IN_THE_MIDDLE_OF_A_WRITE = f"""
import resource, signal
from imgpipeline.ledger import chain

def let_no_file_grow(step, detail):
    if step == "segment put":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores: the kernel is to end the process
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))

chain.reach = let_no_file_grow
{FOLLOW}"""


@pytest.mark.fault(3)
def test_fault_3_a_folder_shows_nothing_of_a_segment_that_a_killed_run_wrote_in_part(lane, tmp_path):
    """The kernel kills the run when its first segment's file has reached 700 bytes."""
    folder = tmp_path / "store"
    own = lane.with_settings(store_url=folder.as_uri(), segment_max_records=RECORDS)
    own.announce(RECORDS)
    with child_run(own, program=DIE_IN_THE_MIDDLE_OF_A_WRITE) as run:
        status, _ = run.wait(PATIENCE_S)
    assert status == -signal.SIGXFSZ
    (part,) = (path for path in folder.glob("metadata/**/*") if path.is_file())
    assert part.stat().st_size == 700, "the run was not killed in the middle of a write"
    assert ledger_objects(own) == {}
    check(own.settings, drained=False)
    check_the_next_run(own)
