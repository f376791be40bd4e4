"""How a record says that it announces another one again: the header `replay_of`.

Its text is `topic/partition/offset`, followed by `@topic id` if the original record is in another chain than the one
that carries the header (the topic was re-created, or is another one).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from imgpipeline.contracts.keys import ChainId
from imgpipeline.errors import UsageError

REPLAY_OF = "replay_of"
"""Header: which record is announced again."""
REPLAY_TIMESTAMP = "replay_timestamp_ms"
"""Header: the Kafka timestamp of that record. The replay's own is new: Kafka would drop an old one soon."""
_REFERENCE = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]{1,249})/(?P<partition>[0-9]{1,9})/(?P<offset>[0-9]{1,18})"
    r"(?:@(?P<topic_id>[A-Za-z0-9._~-]{1,255}))?"
)


@dataclass(frozen=True, slots=True, order=True)
class RecordReference:
    """One record of a chain."""

    chain: ChainId
    """The chain that has its outcome."""
    offset: int
    """Kafka offset."""

    def __str__(self) -> str:
        """Names it for a person, and for commands."""
        return f"{self.chain.topic}/{self.chain.partition}/{self.offset}"

    @property
    def full_text(self) -> str:
        """Names it among all chains that its topic has had."""
        return f"{self}@{self.chain.topic_id}"

    def to_header(self, carried_by: Sequence[ChainId]) -> str:
        """Returns the header's text, as short as it may be.

        Args:
            carried_by: The chains of the topic that the record is announced to.
        """
        alone = len({chain.topic_id for chain in carried_by}) == 1  # who carries it is known to be of that one then
        return str(self) if alone and self.chain in carried_by else self.full_text


def is_reference(text: str) -> bool:
    """Whether a text names a record."""
    return _REFERENCE.fullmatch(text) is not None


def parse_reference(text: str) -> tuple[str, str | None, int, int]:
    """Reads the name of a record.

    Args:
        text: `topic/partition/offset`, or that with `@topic id` behind it.

    Returns:
        Topic, topic id where it is named, partition, offset.

    Raises:
        UsageError: It is no such name.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{text!r} names no record: expected TOPIC/PARTITION/OFFSET.",
            next_step="take one from `imgpipeline dead-letters list`, such as frames/0/41",
        )
    return found["topic"], found["topic_id"], int(found["partition"]), int(found["offset"])


def resolve_reference(text: str, carried_by: ChainId) -> RecordReference | None:
    """Returns the record that a header means, or None if the text names none.

    Args:
        text: The header of a replay.
        carried_by: The chain of the replay: a short text means its own incarnation of the topic.
    """
    try:
        topic, topic_id, partition, offset = parse_reference(text)
        if topic_id is None and topic != carried_by.topic:
            return None
        return RecordReference(ChainId(topic, topic_id or carried_by.topic_id, partition), offset)
    except UsageError:
        return None
