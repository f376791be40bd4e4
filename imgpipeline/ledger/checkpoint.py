"""How far a follower has read the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from imgpipeline.contracts.keys import ChainId
from imgpipeline.ledger.segment import SegmentHeader


@dataclass(frozen=True, slots=True)
class Position:
    """How far a chain was read."""

    end: int
    """First offset that was not read."""
    start: int
    """Start of the last segment that was read."""
    mark: str = ""
    """Hash of that segment's writer id, 16 hexadecimal digits, to notice another one in its place; empty: unknown."""
    e_tag: str = ""
    """Version of that segment's content; while a listing shows it, the segment need not be read. Empty: unknown."""

    @classmethod
    def after(cls, header: SegmentHeader, e_tag: str = "") -> "Position":
        """Returns the position after a segment."""
        return cls(header.end, header.start, mark_of(header), e_tag)

    def is_at(self, other: "Position") -> bool:
        """Whether it is the same position, as far as both know the segment before it."""
        marks = {self.mark, other.mark} - {""}
        return (self.end, self.start) == (other.end, other.start) and len(marks) < 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a follower has read: the end of each chain, and the number of the last repair it has seen."""

    chains: Mapping[ChainId, Position] = field(default_factory=dict)
    """The position in each chain; a chain that is not named is read from its start."""
    repairs: int = 0
    """All entries of the repair list up to this number are in what was read."""

    @property
    def ends(self) -> dict[ChainId, int]:
        """First offset of each chain that was not read."""
        return {chain: position.end for chain, position in self.chains.items()}

    @property
    def hints(self) -> dict[ChainId, int]:
        """Where the search for each chain's end may begin."""
        return {chain: position.start for chain, position in self.chains.items()}

    def to_json(self) -> dict[str, Any]:
        """Returns it as a JSON object."""
        chains = [
            [chain.topic, chain.topic_id, chain.partition, at.end, at.start, at.mark, at.e_tag]
            for chain, at in sorted(self.chains.items())
        ]
        return {"repairs": self.repairs, "chains": chains}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Checkpoint":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        chains = {
            ChainId(str(topic), str(topic_id), int(partition)): Position(int(end), int(start), *map(str, mark))
            for topic, topic_id, partition, end, start, *mark in data["chains"]
        }
        return cls(chains, int(data["repairs"]))


def mark_of(header: SegmentHeader) -> str:
    """Returns what tells a segment from another one in its place."""
    return sha256(header.writer_id.encode()).hexdigest()[:16]
