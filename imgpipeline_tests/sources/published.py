"""Reads the frames and notices of a topic after a source was published, in the order of their offsets."""

from kafka import TopicPartition

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.notices import Notice, NoticeKind, parse_record
from imgpipeline.settings import Settings
from imgpipeline.sources.accounts import Totals
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import to_record
from imgpipeline.stream.log import read_log


def read_published(settings: Settings) -> list[FrameMessage | Notice]:
    """Returns all committed records of the topic, partition by partition."""
    found: list[FrameMessage | Notice] = []
    with open_consumer(settings) as consumer:
        for log in read_log(settings):
            where = TopicPartition(settings.kafka_topic, log.partition)
            consumer.assign([where])
            consumer.seek(where, log.log_start)
            while consumer.position(where) < log.log_end:
                for batch in consumer.poll(timeout_ms=500).values():
                    found += [parse_record(to_record(record)) for record in batch]
    return found


def frames_in(records: list[FrameMessage | Notice]) -> list[FrameMessage]:
    """Returns the frames among the records."""
    return [record for record in records if isinstance(record, FrameMessage)]


def accounts_in(records: list[FrameMessage | Notice]) -> list[Notice]:
    """Returns the accounts among the records."""
    return [record for record in records if isinstance(record, Notice) and record.kind is NoticeKind.ACCOUNT]


def closes(totals: Totals) -> bool:
    """Returns whether every received frame is either settled exactly once or in flight."""
    settled = totals.announced + totals.gated + sum(totals.dropped.values()) + totals.failed
    return totals.received == settled + totals.in_flight
