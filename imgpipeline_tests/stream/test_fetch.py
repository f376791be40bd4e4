"""Fetching from a real broker accounts for every offset."""

import time
from collections.abc import Mapping

import pytest
from kafka import TopicPartition

from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.records import KafkaRecord, Partition
from imgpipeline.contracts.times import from_milliseconds
from imgpipeline.errors import TransientError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin, open_consumer, open_producer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole, HoleExplainer, LaneFetcher, find_oldest, read_record
from imgpipeline.stream.log import read_log

Step = KafkaRecord | Hole


def at(settings: Settings, number: int) -> Partition:
    return Partition(settings.kafka_topic, number)


def fetch(settings: Settings, positions: Mapping[int, int], until: int) -> list[Step]:
    """Fetches until every partition has reached a given offset."""
    steps: list[Step] = []
    starts = {at(settings, number): offset for number, offset in positions.items()}
    reached = dict(starts)
    deadline_s = time.monotonic() + 120
    with open_consumer(settings, **FETCH_OPTIONS) as consumer:
        fetcher = LaneFetcher(consumer, settings, starts)
        while min(reached.values()) < until:
            assert time.monotonic() < deadline_s, f"only {reached}"
            for step in fetcher.poll(0.1):
                reached[step.at] = step.end if isinstance(step, Hole) else step.offset + 1
                steps.append(step)
    return steps


def send(settings: Settings, count: int, **options: object) -> None:
    with open_producer(settings) as producer:
        for number in range(count):
            producer.send(settings.kafka_topic, b"%d" % number, **options)
        producer.flush()


@pytest.mark.parametrize("topic", [2], indirect=True)
def test_records_of_a_partition_come_once_and_in_order(settings):
    for partition in (0, 1):
        send(settings, 700, partition=partition)

    steps = fetch(settings, {0: 0, 1: 650}, 700)

    assert [s.offset for s in steps if isinstance(s, KafkaRecord) and s.partition == 0] == list(range(700))
    assert [s.offset for s in steps if isinstance(s, KafkaRecord) and s.partition == 1] == list(range(650, 700))


@pytest.mark.parametrize("topic", [2], indirect=True)
def test_partitions_with_a_backlog_take_turns(settings):
    for partition in (0, 1):
        send(settings, 700, partition=partition)

    ahead = farthest_ahead = 0
    for step in fetch(settings, {0: 0, 1: 0}, 700):
        ahead += 1 if step.at.number == 0 else -1
        farthest_ahead = max(farthest_ahead, abs(ahead))

    assert farthest_ahead <= 50


def test_a_record_has_its_key_headers_and_time(settings):
    at_ms = int(time.time() * 1000) - 5_000  # not long ago: retention goes by this time
    send(settings, 1, key=b"camera", headers=[("Replay_Of", b"a/0/1"), ("replay_of", b"a/0/2")], timestamp_ms=at_ms)

    [record] = fetch(settings, {0: 0}, 1)

    assert isinstance(record, KafkaRecord)
    assert (record.key, record.value, record.timestamp_ms) == (b"camera", b"0", at_ms)
    assert record.header("replay_of") == "a/0/2"


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_records_are_read_however_they_were_compressed(settings, compression):
    with open_producer(settings, compression_type=compression) as producer:
        producer.send(settings.kafka_topic, b"pressed " * 1000)
        producer.flush()

    [record] = fetch(settings, {0: 0}, 1)

    assert isinstance(record, KafkaRecord)
    assert record.value == b"pressed " * 1000


@pytest.mark.fault(13)
def test_transactions_leave_holes_whose_reason_is_found(settings):
    with open_producer(settings, transactional_id=f"of-{settings.kafka_topic}") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(settings.kafka_topic, b"kept")
        producer.commit_transaction()
        producer.begin_transaction()
        producer.send(settings.kafka_topic, b"aborted")
        producer.flush()
        producer.abort_transaction()

    steps = fetch(settings, {0: 0}, 4)

    assert [s.offset if isinstance(s, KafkaRecord) else (s.start, s.end) for s in steps] == [0, (1, 4)]
    with HoleExplainer(settings) as holes:
        gaps = holes.explain(Hole(at(settings, 0), 1, 4))
    assert gaps == [
        Gap(1, 2, GapReason.MARKER),
        Gap(2, 3, GapReason.ABORTED),
        Gap(3, 4, GapReason.MARKER),
    ]


@pytest.mark.fault(12)
def test_a_log_that_moved_during_a_read_is_an_error_instead_of_a_jump(settings):
    send(settings, 10)
    with open_admin(settings) as admin:
        admin.delete_records({TopicPartition(settings.kafka_topic, 0): 6})

    with pytest.raises(TransientError, match="moved"):
        fetch(settings, {0: 2}, 10)


@pytest.mark.parametrize("topic", [3], indirect=True)
def test_the_oldest_unread_record_of_each_log_has_its_kafka_time(settings):
    now_ms = int(time.time() * 1000)
    for partition in (0, 1, 2):
        for ago_ms in (9_000, 5_000):
            send(settings, 1, partition=partition, timestamp_ms=now_ms - ago_ms)
    with open_admin(settings) as admin:
        admin.delete_records({TopicPartition(settings.kafka_topic, 2): 2})

    found = find_oldest(settings, dict(zip(read_log(settings), (1, 2, 0), strict=True)))

    assert found == {at(settings, 0): from_milliseconds(now_ms - 5_000)}


def test_one_record_is_read_by_its_offset(settings):
    send(settings, 5)

    found = read_record(settings, at(settings, 0), 3)

    assert found is not None
    assert (found.offset, found.value) == (3, b"3")
    assert read_record(settings, at(settings, 0), 5) is None


def test_a_dropped_partition_is_not_read_any_more(settings, make_topic):
    two = settings.model_copy(update={"kafka_topics": (make_topic(partitions=2),)})
    for partition in (0, 1):
        send(two, 3, partition=partition)
    with open_consumer(two, **FETCH_OPTIONS) as consumer:
        fetcher = LaneFetcher(consumer, two, {at(two, 0): 0, at(two, 1): 0})
        fetcher.drop(at(two, 0))
        steps: list[Step] = []
        deadline_s = time.monotonic() + 120
        while len(steps) < 3 and time.monotonic() < deadline_s:
            steps += fetcher.poll(0.1)

    assert {s.at.number for s in steps} == {1}
