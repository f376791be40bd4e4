"""Publishes batches of records, each in one Kafka transaction with the checkpoint after it.

The checkpoint is a record of a compacted topic. A publisher reads it after it has opened its fence: by then, Kafka has
committed or rolled back the last transaction of the previous process, so the newest committed checkpoint says exactly
what readers see.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, read_range
from imgpipeline.stream.log import read_log
from imgpipeline.stream.send import BatchSender, Record, create_topic

CHECKPOINT_TOPIC_SUFFIX = "-checkpoints"
_COMPACTED = {"cleanup.policy": "compact", "segment.ms": "3600000"}
_READ_LIMIT_S = 60.0
State = TypeVar("State")


class Form(StrEnum):
    """The format of the published records."""

    NATIVE = "native"
    CLASSIC = "classic"


@dataclass(frozen=True, slots=True)
class Publication:
    """What to publish, and where."""

    topic: str
    form: Form = Form.NATIVE
    kind: Kind | None = None
    """Which labels; None for all."""
    file: Path | None = None
    """The CSV file that gets the rows in classic form, instead of a topic."""

    def name_of(self, result: str) -> str:
        """Returns the publisher's name. Of several with one name on one topic, only the latest can publish."""
        return f"{result}-{self.kind}" if self.kind else result


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a publisher."""

    store: ObjectStore
    settings: Settings
    clock: Clock = utc_now
    should_continue: Callable[[], bool] = lambda: False
    """Called when everything is published; returns whether to look for new results."""
    progress: Callable[[int], object] = lambda _: None
    """Called with the number of records of each committed transaction or acknowledged batch."""
    on_waiting: Callable[[date], object] = lambda _: None
    """Called with a day whose tables are older than its frames; this and later days are not published yet."""


@dataclass(frozen=True, slots=True)
class ResultBatch:
    """What one transaction publishes."""

    records: list[Record]
    """May be empty: then only the checkpoint moves."""
    state: Mapping[str, Any]
    """The checkpoint after these records, as a JSON object."""


@dataclass(frozen=True, slots=True)
class ResultPublisher(Generic[State]):
    """Publishes one kind of result on a topic, from where the last run ended."""

    topic: str
    name: str
    """The kind of result. Of several publishers with one name on one topic, only the latest can publish."""
    parse: Callable[[Any], State]
    """Parses a checkpoint; may raise KeyError, TypeError or ValueError."""
    start: Callable[[], State]
    """Returns the state before the first checkpoint."""

    def run(self, run: Run, batches: Callable[[State], Iterable[ResultBatch]]) -> int:
        """Publishes, and returns the number of records.

        Args:
            batches: Yields what follows a state, and advances that state.

        Raises:
            FencedError: Another process publishes the same results on the topic.
            PermanentError: The topic or the checkpoint cannot be used, or `batches` raised it.
            TransientError: Broker or store do not answer. A new call continues after the last committed transaction.
        """
        self._create_checkpoint_topic(run.settings)
        topics = (self.topic, self._checkpoint_topic)
        fence = f"publish-{self.name}"
        with closing(BatchSender(run.settings, fence=fence, topics=topics, owner="topic and kind of result")) as sender:
            sender.open()  # before the checkpoint is read, because it ends an unfinished transaction
            reach("publish opened", self.topic)
            found = self._read_checkpoint(run.settings)
            state = self.start() if found is None else found

            def commit(batch: ResultBatch) -> None:
                sender.send([*batch.records, self._checkpoint_record(batch.state)])

            return publish_batches(run, lambda: batches(state), commit)

    @property
    def _checkpoint_topic(self) -> str:
        return f"{self.topic}{CHECKPOINT_TOPIC_SUFFIX}"

    def _create_checkpoint_topic(self, settings: Settings) -> None:
        if self.topic in settings.kafka_topics:
            raise ConfigurationError(
                f"Frames are announced on the topic {self.topic}: results on it would be read as frames.",
                next_step="publish to another topic",
            )
        read_log(settings.model_copy(update={"kafka_topics": (self.topic,)}))  # raises if the topic is missing
        own = settings.model_copy(update={"kafka_topics": (self._checkpoint_topic,)})
        create_topic(own, partitions=1, config=_COMPACTED)

    def _checkpoint_record(self, state: Mapping[str, Any]) -> Record:
        value = json.dumps(state, separators=(",", ":")).encode()
        return Record(self._checkpoint_topic, self.name.encode(), value)

    def _read_checkpoint(self, settings: Settings) -> State | None:
        """Returns the newest committed checkpoint; None if there is none."""
        own = settings.model_copy(update={"kafka_topics": (self._checkpoint_topic,)})
        (log,) = read_log(own)
        found: bytes | None = None
        with open_consumer(own, **FETCH_OPTIONS) as consumer:
            # Without the newest checkpoint, records would be published twice, so a read that ends early must fail.
            for record in read_range(consumer, {log.at: log.log_start}, {log.at: log.log_end}, idle_s=_READ_LIMIT_S):
                found = record.value if record.key == self.name.encode() else found
        if found is None:
            return None
        try:
            return self.parse(json.loads(found))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"The newest record of {self.name!r} on the topic {log.topic} is not a checkpoint of a publisher.",
                next_step="publish to a new topic",
            ) from error


def publish_batches(
    run: Run, batches: Callable[[], Iterable[ResultBatch]], commit: Callable[[ResultBatch], None]
) -> int:
    """Commits batches until the run ends, and returns the number of records."""
    count = 0
    while True:
        for batch in batches():
            reach("publish batch")
            commit(batch)
            count += len(batch.records)
            run.progress(len(batch.records))
        if not run.should_continue():
            return count


def record_of(topic: str, source: str, day: str, name: str, document: Mapping[str, Any]) -> Record:
    """Returns a record with the source as its key, and the headers `day` and `id`, which together identify it."""
    value = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    headers = (("day", day.encode()), ("id", name.encode()))
    return Record(topic, source.encode("utf-8", "surrogatepass"), value, headers)
