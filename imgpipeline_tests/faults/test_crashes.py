"""A frame that ends the process which works on it: it is found by itself, and nothing else is blamed.

First a run that is already careful, then how the sensor comes to one.
"""

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from imgpipeline.detect.crash_search import Child, ChildDiedError
from imgpipeline.detect.report import LaneReport
from imgpipeline.detect.run import follow_lane
from imgpipeline.errors import PermanentError
from imgpipeline.faultpoints import ONCE_VARIABLE, PLAN_VARIABLE
from imgpipeline.stream.lanes import DEATHS_TO_CARE, Lane
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import Site, ledger_end
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg, running
from imgpipeline_tests.faults.child_runs import FOLLOW, child_run, happened, state_of
from imgpipeline_tests.faults.invariant import check, raw_of
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.slow

MAX_DETECT_S = 8.0
CAREFUL = FOLLOW.replace("report=lambda", "careful=True, report=lambda")


@pytest.fixture
def poisoned(lane: LaneUnderTest) -> LaneUnderTest:
    """Three good frames, a bad one, and three good frames."""
    lane.announce(3)
    lane.announce(1, source="poison")
    lane.announce(3, first=3)
    return lane.with_settings(max_detect_s=MAX_DETECT_S)


def follow_carefully(lane: LaneUnderTest, stop: threading.Event | None = None) -> LaneReport:
    """Follow the lane as the sensor asks for after three dead runs."""
    return follow_lane(lane.settings, Lane(0, 1), run_id="careful", report=lambda _: None, stop=stop, careful=True)


def plan(monkeypatch: pytest.MonkeyPatch, fault: str, once: Path | None = None) -> None:
    """Let a fault happen in the processes that are started from now on, and not in this one."""
    monkeypatch.setenv(PLAN_VARIABLE, fault)
    if once:
        monkeypatch.setenv(ONCE_VARIABLE, str(once))


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("action", "said"),
    [("segfault", "SIGSEGV"), ("kill", "SIGKILL"), ("stop", "no answer within 8 s")],
)
def test_fault_38_the_frame_that_ends_its_process_is_buried_and_its_neighbours_are_processed(
    poisoned, monkeypatch, action, said
):
    plan(monkeypatch, f"look~poison={action}")
    report = follow_carefully(poisoned)
    assert report.ended_by == "crash"
    poisoned.follow()
    held = check(poisoned.settings)
    assert (len(held.frames), held.codes) == (6, {"PROCESS_CRASHED": 1})
    (letter,) = held.dead_letters
    assert letter["message"].count(said) == 2, "said of both deaths"
    assert (letter["offset"], letter["source"], letter["image_path"]) == (3, "poison", "images/poison/one.jpg")
    assert raw_of(poisoned.store, letter), "it can be announced again"


@pytest.mark.fault(38)
def test_fault_38_a_process_that_stops_before_it_takes_a_large_image_does_not_hold_up_the_run(lane):
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    before = children.read_text().split()
    child = Child(lane.settings)
    child.wait_until_ready()
    [process] = set(children.read_text().split()) - {*before}
    os.kill(int(process), signal.SIGSTOP)
    image = SimpleNamespace(data=bytes(10_000_000))  # more than a pipe holds
    with pytest.raises(ChildDiedError, match="no answer within 2 s"):
        child.look(image, max_detect_s=2)


@pytest.mark.fault(38)
def test_fault_38_a_process_that_is_killed_once_makes_no_dead_letter(poisoned, monkeypatch, tmp_path):
    plan(monkeypatch, "look~poison=kill", once=tmp_path)
    assert follow_carefully(poisoned).ended_by == "linger"
    assert happened(tmp_path, "look~poison=kill")
    held = check(poisoned.settings)
    assert (len(held.frames), held.codes) == (7, {})


@pytest.mark.fault(38)
def test_fault_38_each_of_several_bad_frames_is_found(lane, monkeypatch):
    lane.announce(1)
    lane.announce(2, source="poison")
    lane.announce(1, first=1)
    plan(monkeypatch, "look~poison=segfault")
    follow_carefully(lane)
    follow_carefully(lane)
    held = check(lane.settings)
    assert (len(held.frames), held.codes) == (2, {"PROCESS_CRASHED": 2})


@pytest.mark.fault(38)
def test_fault_38_a_large_image_is_blamed_like_any_other(lane, monkeypatch):
    """It is looked at where it is read, so that only one of its kind is in memory."""
    lane.put_image("images/poison/one.jpg", jpeg() + bytes(9 * 2**20))
    lane.send(b'{"source": "camera", "image_path": "images/poison/one.jpg", "timestamp": "2026-03-01T12:00:00Z"}')
    plan(monkeypatch, "look~poison=segfault")
    follow_carefully(lane)
    assert check(lane.settings).codes == {"PROCESS_CRASHED": 1}


@pytest.mark.fault(38)
def test_fault_38_a_careful_run_ends_where_the_bad_frame_must_have_been(lane):
    """Four frames in two segments, and one read ahead: more no run has had under way when it died."""
    own = lane.with_settings(prefetch_images=1, segment_max_records=2)
    own.announce(20)
    report = follow_carefully(own)
    assert report.ended_by == "careful"
    assert 5 <= report.frames <= 8
    check(own.settings, drained=False)
    own.follow()
    assert len(check(own.settings).frames) == 20


@pytest.mark.fault(38)
@pytest.mark.fault(39)
def test_fault_38_a_process_that_cannot_start_blames_no_frame(poisoned, monkeypatch):
    plan(monkeypatch, "this is no plan")
    with pytest.raises(Exception, match="ended before it received a record: exit status 1"):
        follow_carefully(poisoned)
    assert check(poisoned.settings, drained=False).dead_letters == []


def test_what_keeps_the_process_from_working_is_raised_as_it_would_be_here(lane):
    child = Child(lane.with_settings(model="no-such-model").settings)
    with pytest.raises(PermanentError, match="no-such-model"):
        child.wait_until_ready()
    child.kill()


@pytest.fixture
def hanging(poisoned: LaneUnderTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LaneUnderTest:
    """The bad frame stops its process, and nobody is in a hurry."""
    plan(monkeypatch, "look~poison=stop", once=tmp_path)
    return poisoned.with_settings(max_detect_s=600)


def test_told_to_stop_a_careful_run_ends_soon_though_its_process_hangs(hanging, tmp_path):
    stop = threading.Event()
    with running(lambda: follow_carefully(hanging, stop)) as reports:
        wait_until(lambda: happened(tmp_path, "look~poison=stop"), limit_s=60, what="the bad frame's turn")
        stop.set()
        wait_until(lambda: bool(reports), limit_s=60, what="the end of the run")
    assert reports[0].ended_by == "stopped"
    assert len(check(hanging.settings, drained=False).frames) == 3


def test_the_process_ends_with_a_run_that_is_killed_even_while_it_hangs(hanging, tmp_path):
    with child_run(hanging, "look~poison=stop", once=tmp_path, program=CAREFUL) as run:
        wait_until(lambda: happened(tmp_path, "look~poison=stop"), limit_s=60, what="the bad frame's turn")
        (child,) = children_of(run.process.pid)
        wait_until(lambda: state_of(child) == "T", limit_s=60, what="the process to hang")
        run.process.send_signal(signal.SIGKILL)
        wait_until(lambda: state_of(child) in ("", "Z"), limit_s=60, what="the end of the process")


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


PATIENCE_S = 280.0
FRAMES = 8


@pytest.fixture
def hurried_site(site: Site) -> Site:
    """A site with a backlog that does not pause for long between runs that fail."""
    site.variables |= {"IMGPIPELINE_RETRY_PAUSE_S": "1"}
    announce_frames(site.settings, FRAMES)
    return site


def drain(site: Site, end: int) -> None:
    """Start the daemon and wait until the ledger has everything."""
    site.start_daemon()
    wait_until(lambda: ledger_end(site) == end, limit_s=PATIENCE_S, what=f"the ledger to reach {end}", interval_s=0.5)
    site.wait_for_runs_to_end()


def runs_of(site: Site, status: dg.DagsterRunStatus, *, careful: bool) -> list[dg.DagsterRun]:
    runs = [record.dagster_run for record in site.runs(job="detect_frames")]
    return [run for run in runs if run.status is status and ("imgpipeline/careful" in run.tags) == careful]


@pytest.mark.timeout(600)
@pytest.mark.fault(38)
def test_fault_38_a_frame_that_kills_every_run_is_found_and_all_others_are_processed(hurried_site):
    announce_frames(hurried_site.settings, 1, source="poison")
    announce_frames(hurried_site.settings, FRAMES, source="later")
    hurried_site.variables |= {PLAN_VARIABLE: "look~poison=segfault"}
    drain(hurried_site, 2 * FRAMES + 1)
    held = check(hurried_site.settings)
    assert (len(held.frames), held.codes) == (2 * FRAMES, {"PROCESS_CRASHED": 1})
    assert held.dead_letters[0]["source"] == "poison"
    assert held.dead_letters[0]["message"].count("SIGSEGV") == 2
    died = runs_of(hurried_site, dg.DagsterRunStatus.FAILURE, careful=False)
    assert DEATHS_TO_CARE <= len(died) <= DEATHS_TO_CARE + 2, "the first ones may have got on before they died"
    assert len(runs_of(hurried_site, dg.DagsterRunStatus.SUCCESS, careful=True)) == 1
    assert runs_of(hurried_site, dg.DagsterRunStatus.FAILURE, careful=True) == []


@pytest.mark.timeout(600)
@pytest.mark.fault(38)
def test_fault_38_runs_that_an_operator_kills_three_times_at_one_place_make_no_dead_letter(hurried_site):
    notes = hurried_site.home / "killed"
    notes.mkdir()
    kills = [f"run begin{detail}=kill" for detail in ("", "~frames", "~frame")]  # of one run each
    hurried_site.variables |= {PLAN_VARIABLE: ";".join(kills), ONCE_VARIABLE: str(notes)}
    drain(hurried_site, FRAMES)
    assert len(list(notes.iterdir())) == len(kills) == DEATHS_TO_CARE
    held = check(hurried_site.settings)
    assert (len(held.frames), held.codes) == (FRAMES, {})
    assert len(runs_of(hurried_site, dg.DagsterRunStatus.FAILURE, careful=False)) == DEATHS_TO_CARE
    assert len(runs_of(hurried_site, dg.DagsterRunStatus.SUCCESS, careful=True)) == 1
