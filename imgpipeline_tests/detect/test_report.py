"""The stage clock measures where the time of a run goes."""

import threading
import time

from imgpipeline.detect.report import Stage, StageClock, StageReport
from imgpipeline_tests.detect.conftest import LaneUnderTest


def lines(clock: StageClock) -> dict[Stage, StageReport]:
    return {line.stage: line for line in clock.report()}


def test_every_stage_has_a_line_of_zeros_before_any_work():
    assert [(line.stage, line.items, line.busy_s, line.ms_each) for line in StageClock().report()] == [
        (stage, 0, 0.0, 0.0) for stage in Stage
    ]


def test_the_work_of_several_threads_is_summed_and_waiting_time_becomes_a_queue_length():
    clock, meet = StageClock(), threading.Barrier(2)
    ready_s = time.perf_counter()

    def work() -> None:
        meet.wait(60)
        with clock.at(Stage.DECODE, ready_s):
            meet.wait(60)
            time.sleep(0.05)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    line = lines(clock)[Stage.DECODE]
    assert line.items == 2
    assert line.busy_s >= 0.1
    lasted_s = line.busy_s / line.at_work
    assert lasted_s < line.busy_s < 2 * lasted_s + 0.001, "two threads worked in parallel"
    assert line.queue_length > 0


def test_a_run_reports_its_stages(lane: LaneUnderTest):
    lane.announce(5)
    report = lane.follow()
    assert {line.stage: line.items for line in report.stages} == {
        Stage.FETCH: 5,
        Stage.GET: 5,
        Stage.DECODE: 5,
        Stage.INFER: 5,
        Stage.PUT: report.segments,
    }
    assert all(line.busy_s > 0 for line in report.stages)
