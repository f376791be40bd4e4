"""Detection runs that die again and again at one place, with a real daemon: it drains by itself, and blames rightly."""

import dagster as dg
import pytest

from imgpipeline.faultpoints import ONCE_VARIABLE, PLAN_VARIABLE
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import open_store
from imgpipeline.stream.lanes import DEATHS_TO_CARE
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import Site
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.waiting import wait_until

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
    store = open_store(site.settings)
    reached = lambda: sum(found.offset for found in fix_ends(store).values()) == end  # noqa: E731 - one use, below
    wait_until(reached, limit_s=PATIENCE_S, what=f"the ledger to reach {end}", interval_s=0.5)
    site.wait_for_runs_to_end()


def runs_of(site: Site, status: dg.DagsterRunStatus, *, careful: bool) -> list[dg.DagsterRun]:
    runs = [record.dagster_run for record in site.runs(job="detect_frames")]
    return [run for run in runs if run.status is status and ("imgpipeline/careful" in run.tags) == careful]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault(38)
def test_fault_38_a_frame_that_kills_every_run_is_found_and_all_others_are_processed(hurried_site: Site) -> None:
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


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault(38)
def test_fault_38_runs_that_an_operator_kills_three_times_at_one_place_make_no_dead_letter(hurried_site: Site) -> None:
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


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.fault(38)
@pytest.mark.fault(41)
def test_fault_38_runs_that_fail_with_an_error_are_not_followed_by_a_careful_one(hurried_site: Site) -> None:
    hurried_site.variables |= {"IMGPIPELINE_MODEL": "no-such-model"}
    hurried_site.start_daemon()
    failed = dg.DagsterRunStatus.FAILURE
    wait_until(
        lambda: len(runs_of(hurried_site, failed, careful=False)) > DEATHS_TO_CARE,
        limit_s=PATIENCE_S,
        what="one more failed run than it takes dead ones",
        interval_s=0.5,
    )
    assert runs_of(hurried_site, failed, careful=True) == []
    assert check(hurried_site.settings, drained=False).ends == {}
