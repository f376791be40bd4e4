"""The offsets of the consumer group: they show progress to other tools, and hint where to look.

The ledger decides, not the group. So a broker that cannot store the offsets is reported, not an error.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from imgpipeline.contracts.records import Partition
from imgpipeline.faultpoints import reach
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin, open_consumer

_log = logging.getLogger(__name__)
_ANSWER_MS = 5_000


class Group:
    """The offsets of the group named by the settings. Used by one thread at a time."""

    def __init__(self, consumer: KafkaConsumer, settings: Settings) -> None:
        """Wraps a consumer that was opened with the group's name; use `open_group`."""
        self._consumer = consumer
        self._settings = settings

    def read(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Returns the group's offset by partition, for those that have one."""
        offsets: dict[Partition, int] = {}
        for partition in partitions:
            try:
                found = self._consumer.committed(TopicPartition(*partition), timeout_ms=_ANSWER_MS)
            except KafkaError as error:
                _log.info("The group %s cannot be asked for its offsets (%s).", self._settings.kafka_group, error)
                return offsets
            if found is not None and found >= 0:
                offsets[partition] = found
        return offsets

    def write(self, offsets: Mapping[Partition, int]) -> bool:
        """Commits offsets by partition; returns whether the broker took them."""
        wanted = {TopicPartition(*p): OffsetAndMetadata(offset, "", -1) for p, offset in offsets.items()}
        reach("group told", self._settings.kafka_group)
        try:
            self._consumer.commit(wanted, timeout_ms=_ANSWER_MS)
        except KafkaError as error:
            _log.warning("The offsets of the group %s were not stored (%s).", self._settings.kafka_group, error)
            return False
        reach("group told done", self._settings.kafka_group)
        return True


@contextlib.contextmanager
def open_group(settings: Settings) -> Iterator[Group]:
    """Opens the group named by the settings; errors of opening are explained as in `connection`."""
    with open_consumer(settings, group_id=settings.kafka_group) as consumer:
        yield Group(consumer, settings)


def ask_group(settings: Settings, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Returns the group's offset by partition, in one request; nothing if it cannot be told.

    Args:
        settings: Name broker and group.
        partitions: Which to ask for. By name, as not every broker answers for "all there are".

    Raises:
        ConfigurationError: A setting keeps the broker from answering.
        TransientError: The broker does not answer.
    """
    wanted = [TopicPartition(*partition) for partition in partitions]
    with open_admin(settings) as admin:
        try:
            offsets = admin.list_group_offsets({settings.kafka_group: wanted})[settings.kafka_group]
        except KafkaError as error:
            _log.info("The group %s cannot be asked for its offsets (%s).", settings.kafka_group, error)
            return {}
        return {Partition(*where): found.offset for where, found in offsets.items() if found.offset >= 0}
