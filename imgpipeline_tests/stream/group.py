"""The offsets of the consumer group, as other tools read them."""

from collections.abc import Iterable

from kafka import TopicPartition
from kafka.errors import KafkaError

from imgpipeline.contracts.records import Partition
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin


def group_offsets(settings: Settings, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Return the stored offsets of these partitions; empty if the broker knows no such group."""
    wanted = [TopicPartition(*partition) for partition in partitions]
    with open_admin(settings) as admin:
        try:
            offsets = admin.list_group_offsets({settings.kafka_group: wanted})[settings.kafka_group]
        except KafkaError:
            return {}
    return {Partition(*where): found.offset for where, found in offsets.items() if found.offset >= 0}
