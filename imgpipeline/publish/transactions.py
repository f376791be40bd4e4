"""Publishes batches of records, each in one Kafka transaction with the checkpoint after it."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from imgpipeline.faultpoints import reach
from imgpipeline.publish.checkpoints import (
    checkpoint_record,
    checkpoint_topic,
    create_checkpoint_topic,
    read_checkpoint,
)
from imgpipeline.settings import Settings
from imgpipeline.stream.batches import BatchSender, Record

_State = TypeVar("_State")


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction publishes."""

    records: list[Record]
    """May be empty: then only the checkpoint moves."""
    state: Mapping[str, Any]
    """The checkpoint after these records, as a JSON object."""


@dataclass(frozen=True, slots=True)
class Publisher(Generic[_State]):
    """Something that publishes on a topic from where it ended."""

    topic: str
    """Kafka topic."""
    name: str
    """What it publishes: of those with one name on one topic, only the latest can publish."""
    parse: Callable[[Any], _State]
    """Reads a checkpoint; may raise KeyError, TypeError or ValueError."""
    start: Callable[[], _State]
    """Makes the state of a publisher that has no checkpoint."""

    def run(
        self,
        settings: Settings,
        batches: Callable[[_State], Iterable[Batch]],
        *,
        goes_on: Callable[[], bool],
        progress: Callable[[int], object],
    ) -> int:
        """Publishes, and returns the number of records.

        Args:
            settings: Name the broker.
            batches: Yields what comes after a state, and moves that state on.
            goes_on: Called when everything is published; whether to look for more.
            progress: Called with the number of records of each committed transaction.

        Raises:
            FencedError: Another process publishes the same there now.
            PermanentError: The topic or the checkpoint cannot be used, or `batches` raised it.
            TransientError: Broker or store do not answer. A new call continues after the last committed transaction.
        """
        create_checkpoint_topic(settings, self.topic)
        topics = (self.topic, checkpoint_topic(self.topic))
        fence, count = f"publish-{self.name}", 0
        with closing(BatchSender(settings, fence=fence, topics=topics, owner="topic and kind of result")) as sender:
            sender.open()  # before the checkpoint is read: an unfinished transaction has ended then
            reach("publish opened", self.topic)
            found = read_checkpoint(settings, self.topic, self.name, self.parse)
            state = self.start() if found is None else found
            while True:
                for batch in batches(state):
                    reach("publish batch", self.topic)
                    sender.send([*batch.records, checkpoint_record(self.topic, self.name, batch.state)])
                    count += len(batch.records)
                    progress(len(batch.records))
                if not goes_on():
                    return count
