"""A run reports its days once a minute; the stage clock measures where its time goes."""

import threading
import time
from datetime import date, timedelta

from imgpipeline.detect.report import LaneTally, Stage, StageClock, StageReport
from imgpipeline.ledger.segment import Segment
from imgpipeline_tests.ledger.samples import DAY, NOON, append, stored_segments, write_chain
from imgpipeline_tests.ledger.sessions import account, shot


def test_a_day_is_reported_once_a_minute_and_at_the_end(memory):
    made = write_chain(memory, [account(0, 2)])
    append(made, [shot(1)])
    append(made, [account(2, 1)])
    segments = stored_segments(memory)
    tally = LaneTally()

    def told(segment: Segment, after_s: float, ended_by: str | None = None) -> tuple[tuple[date, ...], ...]:
        at = NOON + timedelta(seconds=after_s)
        tally.add(segment.header, segment.outcomes(), [], at)
        report = tally.report(at, 0, ended_by=ended_by)
        return report.days, report.accounted

    assert told(segments[0], 0) == ((DAY,), (DAY,))
    assert told(segments[1], 59) == ((), ())
    assert tally.news(NOON + timedelta(seconds=60)) == [DAY]
    assert told(segments[1], 60) == ((DAY,), ()), "no account is new"
    assert tally.news(NOON + timedelta(seconds=120)) == []
    assert told(segments[2], 61, "linger") == ((DAY,), (DAY,))


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


def test_a_run_reports_its_stages(lane):
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
