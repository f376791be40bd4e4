"""How far a follower has read the ledger, and the object in which it stores its state with the checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

import zstandard

from imgpipeline.contracts.keys import ChainId, follower_key
from imgpipeline.errors import PermanentError
from imgpipeline.ledger.segment import SegmentHeader, decompress
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_State = TypeVar("_State")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a chain was read."""

    end: int
    start: int
    mark: str = ""
    """Hash of that segment's writer id (16 hexadecimal digits), to notice if it is replaced; empty: unknown."""
    e_tag: str = ""
    """Version of that segment's content. If a listing shows the same one, no read is needed. Empty: unknown."""

    @classmethod
    def after(cls, header: SegmentHeader, e_tag: str = "") -> "Position":
        """Returns the position after a segment."""
        return cls(header.end, header.start, mark_of(header), e_tag)

    def is_at(self, other: "Position") -> bool:
        """Returns whether two positions are the same; an unknown mark matches any other."""
        marks = {self.mark, other.mark} - {""}
        return (self.end, self.start) == (other.end, other.start) and len(marks) < 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a follower has read: the end of each chain, and the number of the last repair it has seen."""

    chains: Mapping[ChainId, Position] = field(default_factory=dict)
    """The position in each chain; a chain without one is read from its start."""
    repairs: int = 0
    """Number of the last entry in the repair list that the follower has handled."""

    @property
    def ends(self) -> dict[ChainId, int]:
        """First offset of each chain that was not read."""
        return {chain: position.end for chain, position in self.chains.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns the checkpoint as a JSON object."""
        chains = [
            [chain.topic, chain.topic_id, chain.partition, at.end, at.start, at.mark, at.e_tag]
            for chain, at in sorted(self.chains.items())
        ]
        return {"repairs": self.repairs, "chains": chains}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Checkpoint":
        """Parses the result of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        chains = {
            ChainId(str(topic), str(topic_id), int(partition)): Position(int(end), int(start), str(mark), str(e_tag))
            for topic, topic_id, partition, end, start, mark, e_tag in data["chains"]
        }
        return cls(chains, int(data["repairs"]))


def mark_of(header: SegmentHeader) -> str:
    """Returns the mark that distinguishes a segment from a replacement."""
    return sha256(header.writer_id.encode()).hexdigest()[:16]


@dataclass(slots=True)
class FollowerObject:
    """The stored state of a follower, in one compressed object. Used by one thread at a time.

    The object is replaced only in the version that was last loaded or saved, so a slower process never overwrites the
    state of a faster one. It is a cache: if it is missing or damaged, the follower rebuilds it from the ledger.
    """

    store: ObjectStore
    name: str
    max_bytes: int
    """A larger content counts as damaged."""
    _e_tag: str | None = None
    _text: bytes = b""
    _put: bytes | None = None
    _is_lost: bool = False

    def load(self, parse: Callable[[bytes], _State]) -> _State | None:
        """Returns the stored state; None if there is none or it cannot be read.

        `parse` may raise ValueError, KeyError, IndexError, TypeError or AttributeError.

        Raises:
            TransientError: The store does not answer.
        """
        try:
            fetched = self.store.fetch(follower_key(self.name))
        except ObjectMissingError:
            return None
        self._e_tag = fetched.e_tag
        try:
            text = decompress(fetched.data, self.max_bytes)
            state = parse(text)
        except (zstandard.ZstdError, ValueError, KeyError, IndexError, TypeError, AttributeError):
            return None
        self._text = text
        return state

    def save(self, text: bytes) -> bool:
        """Stores a text; returns False if another process has saved meanwhile, or without permission to write.

        After False, nothing more is saved; the next follower catches up.

        Raises:
            TransientError: The store does not answer.
        """
        if text == self._text:
            return True
        try:
            self._is_lost = self._is_lost or not self._replace(zstandard.compress(text))
        except PermanentError:
            self._is_lost = True
        if not self._is_lost:
            self._text = text
        return not self._is_lost

    def _replace(self, data: bytes) -> bool:
        key = follower_key(self.name)
        if self._put is not None:  # a put returns no e-tag, so compare the content
            fetched = self.store.fetch(key)
            if fetched.data != self._put:
                return False
            self._e_tag = fetched.e_tag
        if not self.store.replace_or_own(key, data, self._e_tag):
            return False
        self._put = data
        return True
