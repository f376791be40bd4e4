"""Kafka's side of the ledger: partitions, the ranges of their logs, records, and references from replays to records.

A replay announces a record again. Its header `replay_of` names that record as `topic/partition/offset`, followed by
`@topic id` if the record is in another chain than the replay, because the topic was re-created or is another one.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.times import from_milliseconds
from imgpipeline.errors import UsageError

REPLAY_OF = "replay_of"
"""Header: the record that is announced again."""
REPLAY_TIMESTAMP = "replay_timestamp_ms"
"""Header: the Kafka timestamp of that record. The replay itself gets a new one: Kafka would soon expire an old one."""
_REFERENCE = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]{1,249})/(?P<partition>[0-9]{1,9})/(?P<offset>[0-9]{1,18})"
    r"(?:@(?P<topic_id>[A-Za-z0-9._~-]{1,255}))?"
)


class Partition(NamedTuple):
    """One partition of a followed topic."""

    topic: str
    number: int
    """Kafka partition, from 0."""

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"


@dataclass(frozen=True, slots=True, order=True)
class LogRange:
    """The log of one topic partition at one moment."""

    topic: str
    topic_id: str
    """Kafka's id of this incarnation of the topic, or `cluster id.topic` if the broker reports none."""
    partition: int
    log_start: int
    """First offset that the log still has."""
    log_end: int
    """Last stable offset: everything below it can be read with `read_committed`."""

    @property
    def at(self) -> Partition:
        """The topic partition."""
        return Partition(self.topic, self.partition)

    @property
    def chain(self) -> ChainId:
        """The first chain of the ledger for this log.

        It is the only one unless it was closed: `ledger.find_current_end` finds the one to write to.
        """
        return ChainId(self.topic, self.topic_id, self.partition)


@dataclass(frozen=True, slots=True)
class KafkaRecord:
    """One fetched record."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    """The record's timestamp in Unix milliseconds; -1 if it has none."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    """The record's headers, in order."""

    @property
    def at(self) -> Partition:
        """The topic partition."""
        return Partition(self.topic, self.partition)

    @property
    def time(self) -> datetime | None:
        """The record's timestamp, UTC (for a replay, the original record's); None if it has none."""
        original = self.header(REPLAY_TIMESTAMP) if self.replay_of else None
        if original is not None and re.fullmatch(r"[0-9]{1,15}", original, re.ASCII):
            return from_milliseconds(int(original))
        return from_milliseconds(self.timestamp_ms)

    @property
    def replay_of(self) -> str | None:
        """The record that this one replays; None if it is not a replay or its header does not name a record."""
        text = self.header(REPLAY_OF)
        return text if text is not None and is_reference(text) else None

    def header(self, name: str) -> str | None:
        """Returns the last header with this name (case-insensitive) as text, or None.

        Bytes that are not UTF-8 become lone surrogates. The check of the field then rejects them and names the field.
        """
        found = [value for key, value in self.headers if key.lower() == name]
        return found[-1].decode("utf-8", "surrogateescape") if found and found[-1] is not None else None


@dataclass(frozen=True, slots=True)
class RawRecord:
    """The bytes of a record that became a dead letter."""

    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size_bytes(self) -> int:
        """Size of value, key and headers."""
        headers = sum(len(name.encode("utf-8", "replace")) + len(value) for name, value in self.headers)
        return len(self.value) + len(self.key or b"") + headers

    @property
    def sha256(self) -> str:
        """SHA-256 of the value, 64 hexadecimal digits."""
        return sha256(self.value).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns the record as one JSON object, with all bytes as base64."""
        return {
            "raw_base64": base64.b64encode(self.value).decode(),
            "key_base64": None if self.key is None else base64.b64encode(self.key).decode(),
            "headers": [[name, base64.b64encode(value).decode()] for name, value in self.headers],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "RawRecord":
        """Parses the result of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        key = data["key_base64"]
        headers = tuple((str(name), base64.b64decode(value)) for name, value in data["headers"])
        return cls(base64.b64decode(data["raw_base64"]), None if key is None else base64.b64decode(key), headers)


@dataclass(frozen=True, slots=True, order=True)
class RecordReference:
    """A reference to one record of a chain."""

    chain: ChainId
    offset: int

    def __str__(self) -> str:
        """Returns the form that people and commands use: `frames/0/41`."""
        return f"{self.chain.topic}/{self.chain.partition}/{self.offset}"

    @property
    def full_text(self) -> str:
        """The form that is unique among all chains of the topic: `frames/0/41@topic id`."""
        return f"{self}@{self.chain.topic_id}"

    def to_header(self, carried_by: Sequence[ChainId]) -> str:
        """Returns the text of the header `replay_of`, in the shortest form that is unambiguous.

        Args:
            carried_by: The chains of the topic that the replay is sent to.
        """
        same_incarnation = len({chain.topic_id for chain in carried_by}) == 1
        return str(self) if same_incarnation and self.chain in carried_by else self.full_text


def is_reference(text: str) -> bool:
    """Returns whether a text names a record."""
    return _REFERENCE.fullmatch(text) is not None


def parse_reference(text: str) -> tuple[str, str | None, int, int]:
    """Parses a reference to a record.

    Args:
        text: `topic/partition/offset` or `topic/partition/offset@topic id`.

    Returns:
        Topic, topic id (None if the text has none), partition, offset.

    Raises:
        UsageError: The text is not a reference.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} is not a reference to a record; expected TOPIC/PARTITION/OFFSET.",
            next_step="take one from `imgpipeline dead-letters list`, such as frames/0/41",
        )
    return found["topic"], found["topic_id"], int(found["partition"]), int(found["offset"])


def resolve_reference(text: str, carried_by: ChainId) -> RecordReference | None:
    """Returns the record that a header names, or None if it names none.

    Args:
        text: The header `replay_of`.
        carried_by: The chain of the replay. A text without a topic id refers to the same incarnation of its topic.
    """
    try:
        topic, topic_id, partition, offset = parse_reference(text)
        if topic_id is None and topic != carried_by.topic:
            return None
        return RecordReference(ChainId(topic, topic_id or carried_by.topic_id, partition), offset)
    except UsageError:
        return None
