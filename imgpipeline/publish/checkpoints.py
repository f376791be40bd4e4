"""The checkpoint of a publisher: a record of a compacted topic, committed in the transaction of what it publishes.

A publisher reads it after it has opened its fence. Kafka has then committed or rolled back the last transaction of the
process before, so the newest committed checkpoint says exactly what readers see.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kafka import TopicPartition

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Outcome, offsets_of
from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.ledger import Checkpoint
from imgpipeline.settings import Settings
from imgpipeline.stream.announce import create_topic
from imgpipeline.stream.batches import Record
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS
from imgpipeline.stream.log import read_log

CHECKPOINT_TOPIC_SUFFIX = "-checkpoints"
_COMPACTED = {"cleanup.policy": "compact", "segment.ms": "3600000"}
_READ_LIMIT_S = 120.0
_State = TypeVar("_State")


@dataclass(slots=True)
class Published:
    """What a publisher has published of the ledger."""

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    """Up to where it follows the ledger."""
    ends: dict[ChainId, int] = field(default_factory=dict)
    """By chain: everything before this offset is published. A repair may set the checkpoint back, but never this."""

    def has(self, chain: ChainId, outcome: Outcome) -> bool:
        """Whether an outcome's offset is published already."""
        return offsets_of(outcome)[0] < self.ends.get(chain, 0)

    def add(self, chain: ChainId, outcome: Outcome) -> None:
        """Counts everything up to an outcome as published."""
        self.ends[chain] = offsets_of(outcome)[1]

    def to_json(self) -> dict[str, Any]:
        """Returns it as a JSON object."""
        ends = [[chain.topic, chain.topic_id, chain.partition, end] for chain, end in sorted(self.ends.items())]
        return {"checkpoint": self.checkpoint.to_json(), "published": ends}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Published":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        ends = {ChainId(topic, topic_id, number): int(end) for topic, topic_id, number, end in data["published"]}
        return cls(Checkpoint.from_json(data["checkpoint"]), ends)


def checkpoint_topic(topic: str) -> str:
    """Returns the name of the topic that holds the checkpoints of what is published on a topic."""
    return f"{topic}{CHECKPOINT_TOPIC_SUFFIX}"


def create_checkpoint_topic(settings: Settings, topic: str) -> None:
    """Creates the topic of checkpoints where it is missing, if the topic itself exists.

    Raises:
        ConfigurationError: The topic is missing or holds the frames, or the broker refuses to create one.
        TransientError: The broker does not answer.
    """
    if topic in settings.kafka_topics:
        raise ConfigurationError(
            f"The frames are announced on the topic {topic}: results on it would be read as frames.",
            next_step="publish to another topic",
        )
    read_log(settings.model_copy(update={"kafka_topic": topic}))
    own = settings.model_copy(update={"kafka_topic": checkpoint_topic(topic)})
    create_topic(own, partitions=1, config=_COMPACTED)


def checkpoint_record(topic: str, name: str, state: Mapping[str, Any]) -> Record:
    """Returns the record that goes into a transaction."""
    value = json.dumps(state, separators=(",", ":")).encode()
    return Record(checkpoint_topic(topic), name.encode(), value)


def read_checkpoint(settings: Settings, topic: str, name: str, parse: Callable[[Any], _State]) -> _State | None:
    """Returns the newest committed checkpoint of a publisher; None if it has none.

    Args:
        settings: Name the broker.
        topic: Where it publishes.
        name: What it publishes.
        parse: Reads the JSON object; may raise KeyError, TypeError or ValueError.

    Raises:
        ConfigurationError: The topic has something else in its place.
        TransientError: The broker does not answer, or not in time.
    """
    own = settings.model_copy(update={"kafka_topic": checkpoint_topic(topic)})
    (log,) = read_log(own)
    found = _last_value(own, TopicPartition(log.topic, log.partition), log.log_start, log.log_end, name.encode())
    if found is None:
        return None
    try:
        return parse(json.loads(found))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"The newest record of {name!r} on the topic {log.topic} is not a checkpoint of a publisher.",
            next_step="publish to a new topic",
        ) from error


def _last_value(settings: Settings, at: TopicPartition, start: int, end: int, key: bytes) -> bytes | None:
    last: bytes | None = None
    deadline = time.monotonic() + _READ_LIMIT_S
    with open_consumer(settings, **FETCH_OPTIONS) as consumer:
        consumer.assign([at])
        consumer.seek(at, start)
        while consumer.position(at) < end:
            if time.monotonic() > deadline:
                # Going on without the newest checkpoint would publish twice.
                raise TransientError(f"The checkpoints on {at.topic} could not be read within {_READ_LIMIT_S:.0f} s.")
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    last = record.value if record.key == key else last
    return last
