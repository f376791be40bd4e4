"""Daemons that die, double, or forget: every frame still becomes one outcome, and no run is left behind."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import Site, ledger_end, make_site
from imgpipeline_tests.faults.child_runs import happened, variables_of
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.faults.mortal_daemon import DAEMON_PHASES
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MORTAL = (sys.executable, "-m", "imgpipeline_tests.faults.mortal_daemon")
SENSOR_PHASES = ("tick observed", "tick decided", "tick requested")
BURST = 20


def wait_until_drained(site: Site, frames: int) -> None:
    """Wait until every frame is in the ledger and Dagster shows no detection run as live."""
    wait_until(lambda: ledger_end(site) == frames, limit_s=300, what=f"{frames} frames in the ledger", interval_s=0.5)
    wait_for_detection(site)


def wait_for_detection(site: Site) -> None:
    """Wait until no detection run is live; tables may be built meanwhile."""
    wait_until(lambda: not site.runs(job="detect_frames", live=True), limit_s=120, what="detection", interval_s=0.5)


def statuses(site: Site) -> set[str]:
    return {record.dagster_run.status.value for record in site.runs(job="detect_frames")}


def meet(site: Site, fault: str) -> None:
    """Announce frames, and have a daemon die where a fault of a plan says so."""
    announce_frames(site.settings, BURST, source=f"camera-{len(site.daemons)}")
    daemon = site.start_daemon(*MORTAL, variables=variables_of(fault, site.home))
    wait_until(lambda: happened(site.home, fault), limit_s=180, what=fault, interval_s=0.1)
    if fault.endswith("=stop"):  # the code server stands still in the middle of the sensor's code
        os.kill(daemon.pid, signal.SIGKILL)
        os.killpg(daemon.pid, signal.SIGCONT)
    wait_until(lambda: not daemon.is_alive, limit_s=60, what="the daemon's end")


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "faults",
    [[f"daemon {phase}=kill" for phase in DAEMON_PHASES], [f"{phase}=stop" for phase in SENSOR_PHASES]],
    ids=["phases of the daemon", "phases of the sensor's code"],
)
def test_fault_7_a_daemon_killed_at_any_phase_of_a_tick_is_replaced_by_the_next(site, faults):
    """Each daemon dies one phase later than the one before, and finds what that one has left."""
    for fault in faults:
        meet(site, fault)
    announce_frames(site.settings, BURST)
    site.start_daemon()
    wait_until_drained(site, BURST * (len(faults) + 1))
    check(site.settings)
    assert statuses(site) == {"SUCCESS"}
    with site.instance() as instance:
        assert not [tick for tick in frames_ticks(instance) if tick.status.value == "STARTED"][1:]


@pytest.mark.fault(7)
def test_fault_7_a_code_server_killed_in_the_middle_of_a_tick_is_replaced_by_its_daemon(site):
    announce_frames(site.settings, BURST)
    daemon = site.start_daemon(variables=variables_of("tick decided=kill", site.home))
    wait_until(lambda: happened(site.home, "tick decided=kill"), limit_s=60, what="the code server's end")
    wait_until_drained(site, BURST)
    assert daemon.is_alive
    check(site.settings)


def frames_ticks(instance: dg.DagsterInstance) -> list[dg._core.scheduler.instigation.InstigatorTick]:
    """Return the ticks of the Kafka sensor, newest first."""
    (state,) = (state for state in instance.all_instigator_state() if state.instigator_name == "frames_sensor")
    return list(instance.get_ticks(state.instigator_origin_id, state.selector_id))


@pytest.fixture
def second_site(site: Site, tmp_path: Path) -> Iterator[Site]:
    """Another DAGSTER_HOME over the same topic and bucket."""
    made = make_site(tmp_path / "second", dict(site.variables))
    yield made
    made.stop()


@pytest.mark.fault(8)
@pytest.mark.parametrize("share", [True, False], ids=["one history", "a history each"])
def test_fault_8_two_daemons_may_run_a_lane_twice_and_no_segment_twice(site, second_site, share):
    other = site if share else second_site
    small = {"IMGPIPELINE_SEGMENT_MAX_RECORDS": "5", "IMGPIPELINE_PREFETCH_IMAGES": "2"}
    site.start_daemon(variables=small)
    other.start_daemon(variables=small)
    for burst in range(2):
        announce_frames(site.settings, 5 * BURST, source=f"camera-{burst}")
        wait_until_drained(site, 5 * BURST * (burst + 1))
        wait_for_detection(other)
    check(site.settings)
    assert statuses(site) | statuses(other) == {"SUCCESS"}
