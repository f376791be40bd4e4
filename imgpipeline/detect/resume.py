"""Compares each chain with its Kafka log: where a run continues, and whether the log was replaced.

If records were gone before they were read, their partition stops until `imgpipeline ledger accept-loss` records a gap,
so nothing is skipped silently. If the log is no longer the one that the chain was built from, the run stops, and
`imgpipeline ledger new-chain` closes the chain, so that the log starts the next one. `ledger.chain` explains why
closing is safe while runs write.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.records import LogRange
from imgpipeline.detect.state import ExpiredRecordsError
from imgpipeline.errors import ConfigurationError, LedgerError, TransientError
from imgpipeline.ledger.chain import append_gap, close_chain, find_current_end
from imgpipeline.ledger.reading import ChainEnd
from imgpipeline.ledger.segment import DamagedSegmentError, Fingerprint
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.fetch import read_record
from imgpipeline.stream.log import commit_group, read_log

_CLOSED_BY = "imgpipeline ledger new-chain"
_ACCEPTED_BY = "imgpipeline ledger accept-loss"


def accept_loss(store: ObjectStore, lost: ExpiredRecordsError, *, now: datetime) -> bool:
    """Records exactly the lost offsets as a gap; False if the chain has changed meanwhile."""
    end = find_current_end(store, lost.log.chain)
    return end.offset == lost.gap.start and append_gap(store, end, lost.gap, run_id=_ACCEPTED_BY, created_at=now)


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a partition continues."""

    end: ChainEnd
    gap: Gap | None
    """The gap to record first: offsets that are gone. None if there are none."""

    @property
    def position(self) -> int:
        """The first offset to fetch."""
        return self.gap.end if self.gap else self.end.offset


def resume_chain(
    settings: Settings, store: ObjectStore, log: LogRange
) -> Resumption | ExpiredRecordsError | DamagedSegmentError:
    """Finds where a partition continues.

    Returns:
        The end of its chain, and the gap to record first; the reason if this partition stops and the others continue.

    Raises:
        LedgerError: The log is not the one that the chain was built from.
        TransientError: Store or broker do not answer, or the topic was re-created meanwhile.
    """
    try:
        end = find_current_end(store, log.chain)
    except DamagedSegmentError as error:
        return error
    if end.offset > log.log_end:
        log = _ask_again(settings, log)
    why = find_contradiction(settings, log, end)
    if why:
        raise _not_the_same(log, why)
    if log.log_start <= end.offset:
        return Resumption(end, None)
    if end.header is None:
        return Resumption(end, Gap(0, log.log_start, GapReason.BEFORE_FIRST_LOOK))
    lost = ExpiredRecordsError(log, end.offset)
    return Resumption(end, lost.gap) if settings.allow_gaps else lost


def _ask_again(settings: Settings, log: LogRange) -> LogRange:
    """Reads the log again, since another run may have passed its old end in the meantime."""
    fresh = next((other for other in read_log(settings) if other.at == log.at), None)
    if fresh is None or fresh.chain != log.chain:
        raise TransientError(f"The topic {log.topic} was re-created while its ledger was read.")
    return fresh


def find_contradiction(settings: Settings, log: LogRange, end: ChainEnd) -> str | None:
    """Returns why a log is not the one that a chain was built from; None if nothing contradicts the chain.

    Compares the last record of the chain with the record at that offset of the log, if the log still has it.

    Raises:
        TransientError: The broker does not answer.
    """
    if end.offset > log.log_end:
        return f"the ledger ends at {end.offset}, but the log ends at {log.log_end}"
    mark = end.header.fingerprint if end.header else None
    if mark is None or has_record(settings, log, mark):
        return None
    return f"the record at offset {mark.offset} is not the one that was read there before"


def has_record(settings: Settings, log: LogRange, mark: Fingerprint) -> bool:
    """Returns whether a log may still be the one that a record was read from.

    Returns:
        False if the log ends before the record or has another record at its offset; True if the record is the same or
        was deleted by retention or compaction.

    Raises:
        TransientError: The broker does not answer.
    """
    if mark.offset < log.log_start:
        return True
    if mark.offset >= log.log_end:
        return False
    record = read_record(settings, log.at, mark.offset)
    return record is None or Fingerprint.of(record) == mark


def _not_the_same(log: LogRange, why: str) -> LedgerError:
    return LedgerError(
        f"The log of {log.topic}/{log.partition} (topic id {log.topic_id}) is not the one that its chain was built "
        f"from: {why}. It was truncated, or its topic was re-created.",
        next_step="find out what happened to the log; then run `imgpipeline ledger new-chain`, which starts a new "
        "chain for the log and keeps the old one",
    )


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A log, and a chain that was built from another log."""

    log: LogRange
    end: ChainEnd
    why: str


def find_contradictions(
    settings: Settings, store: ObjectStore, partitions: Collection[int] = ()
) -> list[Contradiction]:
    """Finds the partitions whose log is not the one that the chain was built from.

    Args:
        partitions: Only these partition numbers; empty: all.

    Returns:
        The contradictions, by topic and partition.

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
            next_step="give an existing partition, or none for all",
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

    Returns:
        The chain in which the partition continues, even if another process has closed the old one meanwhile.

    Raises:
        LedgerError: A segment cannot be read.
        TransientError: The chain has grown meanwhile, or the store does not answer.
    """
    if not close_chain(store, found.end, run_id=_CLOSED_BY, created_at=now):
        chain = find_current_end(store, found.log.chain).chain
        if chain == found.end.chain:
            raise TransientError(
                f"{chain} was not closed, because a run has added to it.", next_step="run the command again"
            )
        return chain
    with open_admin(settings) as admin:  # the old offset would show the new log as read
        commit_group(admin, settings, {found.log.at: 0})
    return find_current_end(store, found.log.chain).chain
