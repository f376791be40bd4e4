"""What Kafka reports about one topic partition: the id of its log, and its first and last offset."""

from dataclasses import dataclass
from typing import NamedTuple

from imgpipeline.contracts.keys import ChainId


class Partition(NamedTuple):
    """One partition of one of the topics that are followed."""

    topic: str
    """Kafka topic."""
    number: int
    """Kafka partition, from 0."""

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


@dataclass(frozen=True, slots=True, order=True)
class LogRange:
    """The log of one topic partition at one moment."""

    topic: str
    """Kafka topic."""
    topic_id: str
    """Kafka's id of this incarnation of the topic, or `cluster id.topic` if the broker tells none."""
    partition: int
    """Kafka partition, from 0."""
    log_start: int
    """First offset that is still there."""
    log_end: int
    """Last stable offset: everything below it can be read with `read_committed`."""

    @property
    def at(self) -> Partition:
        """Which partition of which topic it is."""
        return Partition(self.topic, self.partition)

    @property
    def chain(self) -> ChainId:
        """The first chain of the ledger that belongs to this log.

        It is the only one, unless it was closed: `ledger.find_current_end` finds the one to write to.
        """
        return ChainId(self.topic, self.topic_id, self.partition)
