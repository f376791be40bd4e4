"""`imgpipeline ledger new-chain`: closes the chain of a log that was replaced, so that the log starts the next chain.

A chain is closed only while its log contradicts it. `ledger.repair.closing` says why that is safe while runs write.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.log import LogRange
from imgpipeline.detect.resume import find_contradiction
from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.ledger import ChainEnd, close_chain, find_current_end
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.stream.group import open_group
from imgpipeline.stream.log import read_log

_CLOSED_BY = "imgpipeline ledger new-chain"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A log, and a chain that was built from another log."""

    log: LogRange
    """The log as it is now."""
    end: ChainEnd
    """The end of its present chain."""
    why: str
    """How they contradict each other, as text."""


def find_contradictions(
    settings: Settings, store: ObjectStore, partitions: Collection[int] = ()
) -> list[Contradiction]:
    """Finds the partitions whose log is not the one that their chain was built from.

    Args:
        settings: Name broker and topics.
        store: Holds the ledger.
        partitions: Only these partition numbers; empty: all.

    Returns:
        Those that contradict each other, by topic and partition.

    Raises:
        ConfigurationError: A partition, or a topic, does not exist.
        LedgerError: The last segment of a chain cannot be read.
        TransientError: Store or broker do not answer, or the topic was re-created meanwhile.
    """
    before = read_log(settings)
    absent = sorted(set(partitions) - {log.partition for log in before})
    if absent:
        most = max(log.partition for log in before) + 1
        raise ConfigurationError(
            f"The topic {', '.join(settings.kafka_topics)} has no partition {absent[0]}; it has {most}, from 0.",
            next_step="give a partition that it has, or none for all",
        )
    # Read the ends first, then the logs again, so that the progress of a live run cannot look like a contradiction.
    ends = {log.chain: find_current_end(store, log.chain) for log in before}
    found: list[Contradiction] = []
    for log in read_log(settings):
        end = ends.get(log.chain)
        if end is None:
            raise TransientError(f"The topic {log.topic} was re-created while its ledger was read.")
        why = find_contradiction(settings, log, end) if not partitions or log.partition in partitions else None
        if why:
            found.append(Contradiction(log, end, why))
    return found


def begin_new_chain(settings: Settings, store: ObjectStore, found: Contradiction, *, now: datetime) -> ChainId:
    """Closes the chain of a partition; its current log gets the next chain.

    Args:
        settings: Name the consumer group, whose offset is reset to the beginning.
        store: Holds the ledger.
        found: What was found by `find_contradictions`.
        now: The clock.

    Returns:
        The chain in which the partition continues, also if another process has closed it meanwhile.

    Raises:
        LedgerError: A segment cannot be read.
        TransientError: The chain has grown meanwhile, or the store does not answer.
    """
    if not close_chain(store, found.end, run_id=_CLOSED_BY, created_at=now):
        chain = find_current_end(store, found.log.chain).chain
        if chain == found.end.chain:
            raise TransientError(
                f"A run has added to {chain} meanwhile; it was not closed.", next_step="run the command again"
            )
        return chain
    with open_group(settings) as group:
        # Runs report again everything between the group's offset and the ledger's end; the old offset would hide that.
        group.write({found.log.at: 0})
    return find_current_end(store, found.log.chain).chain
