"""A fault that lasts: a handful of failed runs instead of thousands, and the backlog drains by itself afterwards."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.detection_job import detect_frames
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.run_records import live_runs
from imgpipeline.stream import lanes
from imgpipeline.stream.lanes import LONGEST_BACK_OFF_S, FailedRun, Lane, LiveRun, PartitionView, Place, decide
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.sensor import Sensor
from imgpipeline_tests.defs.site import REPOSITORY, Site
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.servers.s3_server import S3Server

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
TICK_S = 5
LIMITS: dict[str, Any] = {"lanes": 1, "takeover_s": 180, "retry_pause_s": 10}
HOUR_S = 3600
FRAMES = 12


def hour_of_ticks(ends_after_s: float | None) -> tuple[list[int], int]:
    """Tick for an hour over one partition at which every run ends badly.

    Args:
        ends_after_s: When a run fails, in seconds; None: never, it hangs.

    Returns:
        At which seconds runs were started, and how many were live at once at most.
    """
    live: list[LiveRun] = []
    failed: list[FailedRun] = []
    started, most = [], 0
    for second in range(0, HOUR_S, TICK_S):
        now = NOON + timedelta(seconds=second)
        for run in [run for run in live if ends_after_s and (now - run.began_at).total_seconds() >= ends_after_s]:
            live.remove(run)
            failed.append(FailedRun(run.run_id, run.lane, now, {Place(0, 0): 100}))
        made = decide([PartitionView(0, 150, 100, NOON, NOON)], live, failed, **LIMITS, now=now)
        failed += [
            FailedRun(run.run_id, run.lane, now, {Place(0, 0): 100}) for run in live if run.run_id in made.overtaken
        ]
        live = [run for run in live if run.run_id not in made.overtaken]
        live += [LiveRun(f"run-{second}", start.lane, now) for start in made.starts]
        started += [second for _ in made.starts]
        most = max(most, len(live))
    return started, most


@pytest.mark.fault(41)
@pytest.mark.parametrize(("ends_after_s", "handful"), [(5, 12), (30, 12), (None, 6)], ids=["early", "late", "hangs"])
def test_fault_41_an_hour_in_which_every_run_fails_sees_a_handful_of_runs(ends_after_s, handful):
    started, most = hour_of_ticks(ends_after_s)
    assert 2 <= len(started) <= handful
    assert most == 1


@pytest.mark.fault(41)
def test_fault_41_after_a_lasting_fault_the_next_run_comes_within_the_longest_pause():
    failed = [FailedRun(f"failed-{n}", Lane(0, 1), NOON, {Place(0, 0): 100}) for n in range(500)]
    view = PartitionView(0, 150, 100, NOON, NOON)
    later = NOON + timedelta(seconds=LONGEST_BACK_OFF_S)
    assert decide([view], [], failed, **LIMITS, now=later).starts
    assert decide([replace(view, ledger_end=101)], [], failed, **LIMITS, now=NOON).starts


Fault = Callable[["Ticking"], AbstractContextManager[None]]


class Ticking:
    """The sensor over the real servers, and the runs that it asks for; each is worked before the next tick."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch, s3: S3Server, tmp_path: Path) -> None:
        self.sensor = Sensor(site, monkeypatch)
        self.site, self.s3, self.tmp_path = site, s3, tmp_path

    def tick(self) -> bool:
        """Tick once; return whether that asked for a run."""
        answer = self.sensor.tick()
        requests = answer.run_requests or [] if isinstance(answer, dg.SensorResult) else []
        for request in requests:
            detect_frames.execute_in_process(
                run_config=request.run_config,
                tags=request.tags,
                resources={"pipeline": Pipeline()},
                instance=self.sensor.instance,
                raise_on_error=False,
            )
        return bool(requests)

    def statuses(self) -> list[str]:
        return [record.dagster_run.status.value for record in self.sensor.instance.get_run_records()]


@contextmanager
def refused_puts(ticking: Ticking) -> Iterator[None]:
    """The store lets everything be read and listed, and refuses every segment."""

    def refuse(method: str, path: str, _before: int) -> Fate:
        return Fate.ANSWER_403 if method == "PUT" and "/metadata/" in path else Fate.FORWARD

    with AnswerLosingProxy(ticking.s3.port, refuse) as proxy:
        ticking.sensor.set(IMGPIPELINE_S3_ENDPOINT=proxy.endpoint)
        yield
    ticking.sensor.set(IMGPIPELINE_S3_ENDPOINT=f"http://127.0.0.1:{ticking.s3.port}")


@contextmanager
def damaged_model(ticking: Ticking) -> Iterator[None]:
    """The model's file is cut short."""
    model, whole = ticking.tmp_path / "own.onnx", (REPOSITORY / "models" / "demo.onnx").read_bytes()
    model.write_bytes(whole[:1000])
    labels = ticking.tmp_path / "labels.txt"
    labels.write_text("person\nbicycle\ncar\ndog\n")
    ticking.sensor.set(
        IMGPIPELINE_MODEL=str(model), IMGPIPELINE_MODEL_DECODER="yolox", IMGPIPELINE_MODEL_LABELS=str(labels)
    )
    yield
    model.write_bytes(whole)


@pytest.mark.slow
@pytest.mark.fault(41)
@pytest.mark.parametrize("fault", [refused_puts, damaged_model])
def test_fault_41_while_a_fault_lasts_few_runs_fail_and_afterwards_it_drains_by_itself(
    site, s3, tmp_path, monkeypatch, fault
):
    """With the pauses of the back-off 20 times shorter than in production, and a tick every tenth of a second."""
    monkeypatch.setattr(lanes, "LONGEST_BACK_OFF_S", 4.0)
    site.variables |= {"IMGPIPELINE_LINGER_S": "0.3", "IMGPIPELINE_RETRY_PAUSE_S": "0.5"}
    ticking = Ticking(site, monkeypatch, s3, tmp_path)
    announce_frames(site.settings, FRAMES)
    ticks = 0
    with fault(ticking):
        began_s, before = time.monotonic(), len(ticking.statuses())
        while time.monotonic() - began_s < 8 or (ticks < 12 and time.monotonic() - began_s < 120):
            ticking.tick()
            ticks += 1
            time.sleep(0.1)  # the tick's interval, not a wait for anything
        failed, lasted_s = len(ticking.statuses()) - before, time.monotonic() - began_s
    pauses_s = [min(0.5 * 2**n, 4.0) for n in range(failed - 1)]
    assert failed >= 2
    assert sum(pauses_s) <= lasted_s  # so six in eight seconds at most
    assert failed < ticks
    assert ticking.statuses()[:failed] == ["FAILURE"] * failed
    check_drains(ticking)


def check_drains(ticking: Ticking) -> None:
    """Tick until a run succeeds, which has to be the next one; then nothing is left to do, and no run is live."""
    deadline_s = time.monotonic() + 120
    while not ticking.tick():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert ticking.statuses()[0] == "SUCCESS"
    assert not ticking.tick()
    assert live_runs(ticking.sensor.instance, utc_now(), utc_now()) == []
    check(Pipeline().settings())
