"""After a fault while a lane is followed, every offset still has one outcome, and the run ends with a clear error."""

import threading
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import DeadLetter, Gap, GapReason, Outcome
from imgpipeline.contracts.records import Partition
from imgpipeline.detect.report import LaneReport, LaneTally
from imgpipeline.detect.resume import resume_chain
from imgpipeline.detect.run import follow_lane
from imgpipeline.detect.workers import SegmentDraft
from imgpipeline.errors import ConfigurationError, DeadLetterCode, ImgpipelineError, TransientError
from imgpipeline.ledger.dead_letters import read_raw_record
from imgpipeline.ledger.segment import Provenance, describe
from imgpipeline.objectstore import ForbiddenError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer, open_producer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole, HoleExplainer, LaneFetcher, cover_hole
from imgpipeline.stream.lanes import Lane
from imgpipeline.stream.log import read_log
from imgpipeline_tests.detect.conftest import (
    START,
    LaneUnderTest,
    encode,
    has_each_offset_once,
    message,
    running,
)
from imgpipeline_tests.ledger.samples import dead_letter, rejected
from imgpipeline_tests.ledger.samples import frame as a_frame
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.stream.group import group_offsets


def ledger_objects(lane: LaneUnderTest) -> dict[str, str]:
    """Return key and version of every segment."""
    return {info.key: info.e_tag for info in lane.store.list_objects("metadata")}


def small_steps(lane: LaneUnderTest) -> LaneUnderTest:
    return lane.with_settings(segment_max_records=5, prefetch_images=2)


def error_of(lane: LaneUnderTest) -> ImgpipelineError | None:
    """Follows a lane and returns the error."""
    try:
        lane.follow()
    except ImgpipelineError as error:
        return error
    return None


def through(lane: LaneUnderTest, proxy: AnswerLosingProxy) -> LaneUnderTest:
    return lane.with_settings(s3_endpoint=proxy.endpoint)


# Several runs at a time


@pytest.mark.fault(6)
def test_a_superseded_run_does_not_report_the_work_of_its_winner_as_lag(lane):
    lane.announce(60)
    others: list[LaneReport] = []

    def let_another_go_first(report: LaneReport) -> None:
        lane.reports.append(report)
        if not others:
            others.append(LaneUnderTest(lane.settings).follow())

    last = follow_lane(small_steps(lane).settings, Lane(0, 1), run_id="slow", report=let_another_go_first)

    assert (last.ended_by, last.lag) == ("superseded", 0)
    assert has_each_offset_once(lane.outcomes(), 60)


def test_an_end_that_another_run_has_just_moved_is_not_a_contradiction(lane):
    [log] = read_log(lane.settings)
    lane.announce(5)
    lane.follow()

    assert resume_chain(lane.settings, lane.store, log).end.offset == 5


@pytest.mark.fault(4)
def test_only_reported_offsets_are_committed_to_the_group(lane):
    lane.announce(60)
    told: list[int] = []
    reported = [0]

    def compare(report: LaneReport) -> None:
        told.append(group_offsets(lane.settings, [lane.partition()]).get(lane.partition(), 0))
        assert told[-1] <= reported[-1]
        reported.append(report.frames)

    follow_lane(small_steps(lane).settings, Lane(0, 1), run_id="run", report=compare)

    assert reported[-1] == 60


# A broker or a store in trouble


@pytest.mark.slow
@pytest.mark.fault(15)
def test_a_read_that_hangs_holds_up_neither_what_is_finished_nor_the_end_of_a_stopped_run(lane, s3):
    let_go = threading.Event()

    class HangingProxy(AnswerLosingProxy):
        def decide(self, method: str, path: str) -> Fate:  # noqa: ARG002 - the base class names it
            if "slow" in path:
                let_go.wait(120)
            return Fate.FORWARD

    slow = lane.put_image("images/camera/slow.jpg")
    lane.announce(5)
    lane.send(*[message(image_path=slow, frame_number=n) for n in range(5, 60)])
    stop = threading.Event()
    with HangingProxy(s3.port) as proxy:
        try:
            with running(lambda: through(lane, proxy).follow(stop=stop)) as results:
                wait_until(lambda: len(lane.frames()) == 5, limit_s=60, what="what is finished")
                stop.set()
                wait_until(lambda: bool(results), limit_s=60, what="the end of the run")
        finally:
            let_go.set()

    [report] = results
    assert (report.ended_by, report.frames) == ("stopped", 5)
    lane.follow()
    assert has_each_offset_once(lane.outcomes(), 60)


@pytest.mark.fault(16)
def test_a_store_that_lists_but_does_not_let_read_is_not_the_fault_of_the_frames(lane, s3):
    refuses = threading.Event()

    def refuse(method: str, path: str, _before: int) -> Fate:
        is_object = "/lane/" in path and method in ("GET", "HEAD")
        return Fate.ANSWER_403 if is_object and refuses.is_set() else Fate.FORWARD

    lane.announce(3)

    def take_the_right_away() -> None:
        wait_until(lambda: len(lane.frames()) == 3, limit_s=60, what="the first frames")
        refuses.set()
        lane.send(*[message(image_path="images/camera/one.jpg", frame_number=n) for n in range(3, 6)])

    with AnswerLosingProxy(s3.port, refuse) as proxy, running(take_the_right_away), pytest.raises(ForbiddenError):
        through(lane, proxy).with_settings(linger_s=60.0).follow()

    assert lane.dead_letters() == []


def test_large_images_are_processed_in_order_and_each_is_read_once(lane, s3):
    pixels = np.zeros((3000, 4000, 3), np.uint8)
    paths = [lane.put_image(f"images/camera/large-{n}.jpg", encode(pixels, ".jpg")) for n in range(2)]
    lane.send(*[message(image_path=path, frame_number=n) for n, path in enumerate(paths)])

    with AnswerLosingProxy(s3.port) as proxy:
        through(lane, proxy).follow()

    assert [(f.frame_number, f.image_width, f.brightness) for f in lane.frames()] == [(0, 4000, 0.0), (1, 4000, 0.0)]
    assert len(proxy.fates("GET", "large-")) == 2


def test_a_hole_that_the_broker_does_not_send_whole_is_not_taken_for_markers(lane):
    lane.send(b"1", b"2", b"3")

    with HoleExplainer(lane.settings) as holes, pytest.raises(TransientError, match="up to 9"):
        holes.explain(Hole(lane.partition(), 3, 9))


@pytest.mark.parametrize(
    "large",
    [
        replace(a_frame(0), attributes={"note": "x" * 500_000}),
        rejected(dead_letter(0), b"no json", key=b"x" * 500_000),
    ],
    ids=["frame", "dead letter"],
)
def test_a_segment_is_due_before_large_records_fill_the_memory(large):
    draft = SegmentDraft(Partition("frames", 0))
    while not draft.is_due(0.0, max_records=1000, max_age_s=60.0):
        draft.add(large, None, 0.0)

    assert 2 <= len(draft.outcomes) < 20


@pytest.mark.fault(25)
def test_a_key_beyond_the_limit_is_not_kept(lane):
    lane.send(b"no json", key=b"k" * 100_000)

    lane.follow()

    [letter] = lane.dead_letters()
    assert read_raw_record(lane.store, lane.chain(), letter) is None


def test_an_unsupported_compression_is_named(lane, monkeypatch):
    monkeypatch.setattr("kafka.record.default_records.codecs.has_lz4", lambda: False)
    producer = Producer({"bootstrap.servers": lane.settings.kafka_bootstrap_servers, "compression.type": "lz4"})
    producer.produce(lane.settings.kafka_topic, b"{" * 1000)
    producer.flush(10)

    with pytest.raises(ConfigurationError, match="lz4"):
        lane.follow()


def test_a_hole_of_many_offsets_costs_no_memory():
    hole = Hole(Partition("frames", 0), 0, 10**12)

    gaps = cover_hole(hole, [5, 6, 10**9], GapReason.COMPACTED)

    assert [(g.start, g.end) for g in gaps] == [(0, 5), (5, 7), (7, 10**9), (10**9, 10**9 + 1), (10**9 + 1, 10**12)]
    assert [g.reason for g in gaps] == [GapReason.COMPACTED, GapReason.ABORTED] * 2 + [GapReason.COMPACTED]


@pytest.mark.parametrize("topic", [2], indirect=True)
def test_the_backlog_of_one_camera_does_not_starve_the_others(lane):
    with open_producer(lane.settings) as producer:
        for number in range(5000):
            producer.send(lane.settings.kafka_topic, b"%0250d" % number, partition=0)
        producer.flush()
        producer.send(lane.settings.kafka_topic, b"other", partition=1)
        producer.flush()

    before = 0
    with open_consumer(lane.settings, **FETCH_OPTIONS) as consumer:
        fetcher = LaneFetcher(consumer, lane.settings, {lane.partition(0): 0, lane.partition(1): 0})
        while not any(step.at.number == 1 for step in fetcher.poll(0.2)):
            before = consumer.position(TopicPartition(lane.settings.kafka_topic, 0))

    assert before <= 1500


def test_gaps_do_not_count_as_speed():
    letter = DeadLetter(1_000_000, DeadLetterCode.INVALID_MESSAGE, "no JSON", START, START.date(), None, None, 1, None)
    outcomes: list[Outcome] = [Gap(0, 1_000_000, GapReason.BEFORE_FIRST_LOOK), letter]
    header = describe(
        ChainId("frames", "id", 0),
        outcomes,
        provenance=Provenance("", "", "", "run"),
        writer_id="w",
        fingerprint=None,
        created_at=START,
    )
    tally = LaneTally()
    tally.begin(START)
    ended = START + timedelta(seconds=10)
    tally.add(header, outcomes, [START], ended)

    assert tally.report(ended, 0).frames_per_s == pytest.approx(0.1)


@pytest.mark.parametrize("topic", [2], indirect=True)
def test_one_transaction_per_record_is_explained_with_one_client_and_an_empty_partition_ends_the_run(lane, monkeypatch):
    opened: list[Settings] = []

    def count(settings: Settings, **options: Any) -> AbstractContextManager[KafkaConsumer]:
        opened.append(settings)
        return open_consumer(settings, **options)

    monkeypatch.setattr("imgpipeline.stream.fetch.open_consumer", count)
    with open_producer(lane.settings, transactional_id=f"of-{lane.settings.kafka_topic}") as producer:
        producer.init_transactions()
        for finish in [producer.commit_transaction] * 10 + [producer.abort_transaction] * 3:
            producer.begin_transaction()
            producer.send(lane.settings.kafka_topic, b"no json", partition=1)
            producer.flush()
            finish()

    report = lane.follow()

    assert report.lag == 0
    assert has_each_offset_once(lane.outcomes(), 26)
    tail = [GapReason.ABORTED, GapReason.MARKER] * 3
    assert [gap.reason for gap in lane.gaps()] == [GapReason.MARKER] * 10 + tail
    assert len(opened) == 1


def test_a_run_ends_after_its_limit_of_records_and_the_next_one_continues(lane):
    lane.announce(60)

    first = follow_lane(lane.settings, Lane(0, 1), run_id="limited", report=lambda _: None, limit=50)

    assert (first.ended_by, first.frames, len(lane.frames())) == ("limit", 50, 50)
    assert lane.follow().frames == 10
