"""Records whose headers have names that are not UTF-8, as producers in other languages can write them."""

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError

from imgpipeline.stream.connection import open_consumer, open_producer
from imgpipeline_tests.detect.conftest import LaneUnderTest, message
from imgpipeline_tests.faults.invariant import check

ODD = b"caf\xe9\xff"


class RawName(str):
    """A header's name that goes out as the bytes `ODD`, whatever the client makes of names."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        return ODD


def send_odd(lane: LaneUnderTest, values: Sequence[bytes], *, odd: set[int]) -> None:
    """Sends records in one compressed batch; those of `odd` have a header with such a name."""
    with open_producer(lane.settings, linger_ms=500, compression_type="gzip") as producer:
        for number, value in enumerate(values):
            headers = [("plain", b"1"), *([(RawName("odd"), b"2")] if number in odd else [])]
            producer.send(lane.settings.kafka_topic, value, key=b"camera", headers=headers)
        producer.flush()


@pytest.mark.fault(27)
def test_fault_27_a_header_name_that_is_not_utf_8_holds_up_neither_its_record_nor_the_neighbours(
    lane: LaneUnderTest,
) -> None:
    path = lane.put_image("images/camera/one.jpg")
    good = [message(image_path=path, frame_number=number) for number in range(6)]

    send_odd(lane, [*good[:3], b"no message", *good[3:]], odd={1, 3, 6})
    report = lane.follow()

    assert (report.frames, report.dead_letters, report.lag) == (6, 1, 0)
    held = check(lane.settings)
    assert [frame["source_kafka_offset"] for frame in held.frames] == [0, 1, 2, 4, 5, 6]
    assert held.codes == {"INVALID_MESSAGE": 1}


@pytest.mark.fault(27)
def test_fault_27_other_consumers_of_the_process_keep_their_own_decoding(lane: LaneUnderTest) -> None:
    send_odd(lane, [b"{}"], odd={0})
    topic = lane.settings.kafka_topic

    with open_consumer(lane.settings) as ours:
        partitions = [TopicPartition(topic, number) for number in ours.partitions_for_topic(topic)]
        ours.assign(partitions)
        ours.seek_to_beginning(*partitions)
        [[record]] = ours.poll(timeout_ms=20_000).values()
        assert [name for name, _ in record.headers] == ["plain", "caf\ufffd\ufffd"]

        servers = lane.settings.kafka_bootstrap_servers
        with contextlib.closing(KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")) as other:
            other.assign(partitions)
            with pytest.raises(CorruptRecordError, match="UnicodeDecodeError"):
                other.poll(timeout_ms=20_000)
