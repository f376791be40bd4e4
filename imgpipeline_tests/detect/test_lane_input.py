"""Input that is large or rare: memory stays flat, no camera starves, and every offset has one outcome."""

from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from kafka import KafkaConsumer, TopicPartition

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import DeadLetter, Gap, GapReason, Outcome
from imgpipeline.contracts.records import Partition
from imgpipeline.detect.report import LaneTally
from imgpipeline.detect.run import follow_lane
from imgpipeline.errors import (
    ConfigurationError,
    DeadLetterCode,
    TransientError,
)
from imgpipeline.ledger.dead_letters import read_raw_record
from imgpipeline.ledger.segment import Provenance, describe
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer, open_producer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole, HoleExplainer, LaneFetcher, cover_hole
from imgpipeline.stream.lanes import Lane
from imgpipeline_tests.detect.conftest import START, LaneUnderTest, encode, has_each_offset_once, message, segments
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy
from imgpipeline_tests.servers.s3_server import S3Server


def test_no_object_is_read_twice_for_its_size(lane: LaneUnderTest, s3: S3Server) -> None:
    path = lane.put_image("images/camera/4k.jpg", encode(np.zeros((2160, 3840, 3), np.uint8), ".jpg"))
    lane.send(message(image_path=path))

    with AnswerLosingProxy(s3.port) as proxy:
        lane.with_settings(s3_endpoint=proxy.endpoint).follow()

    assert len(proxy.fates("GET", "4k.jpg")) == len(lane.frames()) == 1


def test_a_hole_that_the_broker_does_not_send_whole_is_not_taken_for_markers(lane: LaneUnderTest) -> None:
    lane.send(b"1", b"2", b"3")

    with HoleExplainer(lane.settings) as holes, pytest.raises(TransientError, match="up to 9"):
        holes.explain(Hole(lane.partition(), 3, 9))


@pytest.mark.parametrize("rubbish", [False, True])
def test_a_segment_is_closed_before_large_records_fill_the_memory(lane: LaneUnderTest, rubbish: bool) -> None:
    path, much = lane.put_image("images/camera/one.jpg"), "x" * 500_000
    values = [b"no json" if rubbish else message(image_path=path, frame_number=n, note=much) for n in range(20)]
    lane.send(*values, key=much.encode() if rubbish else b"camera")

    lane.with_settings(commit_interval_s=60.0, dead_letter_raw_bytes=1_000_000).follow()

    assert segments(lane) >= 2
    assert has_each_offset_once(lane.outcomes(), 20)


@pytest.mark.fault(25)
def test_a_key_beyond_the_limit_is_not_kept(lane: LaneUnderTest) -> None:
    lane.send(b"no json", key=b"k" * 100_000)

    lane.follow()

    [letter] = lane.dead_letters()
    assert read_raw_record(lane.store, lane.chain(), letter) is None


def test_an_unsupported_compression_is_named(lane: LaneUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kafka.record.default_records.codecs.has_lz4", lambda: False)
    producer = Producer({"bootstrap.servers": lane.settings.kafka_bootstrap_servers, "compression.type": "lz4"})
    producer.produce(lane.settings.kafka_topic, b"{" * 1000)
    producer.flush(10)

    with pytest.raises(ConfigurationError, match="lz4"):
        lane.follow()


@pytest.mark.parametrize("topic", [2], indirect=True)
def test_a_markers_only_tail_and_an_empty_partition_end_the_run(lane: LaneUnderTest) -> None:
    with open_producer(lane.settings, transactional_id=f"of-{lane.settings.kafka_topic}") as producer:
        producer.init_transactions()
        for _ in range(3):
            producer.begin_transaction()
            producer.send(lane.settings.kafka_topic, b"rolled back", partition=1)
            producer.flush()
            producer.abort_transaction()

    report = lane.follow()

    assert report.lag == 0
    assert has_each_offset_once(lane.outcomes(), 6)
    assert [gap.reason for gap in lane.gaps()] == [GapReason.ABORTED, GapReason.MARKER] * 3


def test_a_hole_of_many_offsets_costs_no_memory() -> None:
    hole = Hole(Partition("frames", 0), 0, 10**12)

    gaps = cover_hole(hole, [5, 6, 10**9], GapReason.COMPACTED)

    assert [(g.start, g.end) for g in gaps] == [(0, 5), (5, 7), (7, 10**9), (10**9, 10**9 + 1), (10**9 + 1, 10**12)]
    assert [g.reason for g in gaps] == [GapReason.COMPACTED, GapReason.ABORTED] * 2 + [GapReason.COMPACTED]


@pytest.mark.parametrize("topic", [2], indirect=True)
def test_the_backlog_of_one_camera_does_not_starve_the_others(lane: LaneUnderTest) -> None:
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


def test_gaps_do_not_count_as_speed() -> None:
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


def test_one_transaction_per_record_is_explained_with_one_client(
    lane: LaneUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Settings] = []

    def count(settings: Settings, **options: Any) -> AbstractContextManager[KafkaConsumer]:
        opened.append(settings)
        return open_consumer(settings, **options)

    monkeypatch.setattr("imgpipeline.stream.fetch.open_consumer", count)
    with open_producer(lane.settings, transactional_id=f"of-{lane.settings.kafka_topic}") as producer:
        producer.init_transactions()
        for _ in range(20):
            producer.begin_transaction()
            producer.send(lane.settings.kafka_topic, b"no json")
            producer.commit_transaction()

    lane.follow()

    assert has_each_offset_once(lane.outcomes(), 40)
    assert [gap.reason for gap in lane.gaps()] == [GapReason.MARKER] * 20
    assert len(opened) == 1


def test_a_run_ends_after_its_limit_of_records_and_the_next_one_continues(lane: LaneUnderTest) -> None:
    lane.announce(60)

    first = follow_lane(lane.settings, Lane(0, 1), run_id="limited", report=lambda _: None, limit=50)

    assert (first.ended_by, first.frames, len(lane.frames())) == ("limit", 50, 50)
    assert lane.follow().frames == 10
