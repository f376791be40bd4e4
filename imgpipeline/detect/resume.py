"""Where a run continues: the end of each chain, compared with its log.

Checks that the log is still the one that the chain was built from, and records a gap for records that were gone before
they were read. Nothing is skipped silently.
"""

from dataclasses import dataclass

from imgpipeline.contracts.log import LogRange
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import LedgerError, TransientError
from imgpipeline.ledger import ChainEnd, Fingerprint, find_current_end
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.stream.fetch import read_record
from imgpipeline.stream.log import read_log


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a partition continues."""

    end: ChainEnd
    """The chain's end: the next segment starts there."""
    gap: Gap | None
    """The gap to record first: offsets that are gone. None if there are none."""

    @property
    def position(self) -> int:
        """The first offset to fetch."""
        return self.gap.end if self.gap else self.end.offset


def resume_chain(settings: Settings, store: ObjectStore, log: LogRange) -> Resumption:
    """Finds where a partition continues.

    Args:
        settings: Say whether lost records may be skipped.
        store: Holds the ledger.
        log: The partition's log, read just now.

    Returns:
        The end of its chain, and the gap to record first.

    Raises:
        LedgerError: The log is not the one that the chain was built from, or unread records were lost.
        TransientError: Store or broker do not answer, or the topic was re-created meanwhile.
    """
    end = find_current_end(store, log.chain)
    if end.offset > log.log_end:
        log = _ask_again(settings, log)
    why = find_contradiction(settings, log, end)
    if why:
        raise _not_the_same(log, why)
    if log.log_start <= end.offset:
        return Resumption(end, None)
    if end.header is None:
        return Resumption(end, Gap(0, log.log_start, GapReason.BEFORE_FIRST_LOOK))
    if not settings.allow_gaps:
        raise LedgerError(
            f"Kafka has dropped the offsets [{end.offset}, {log.log_start}) of {log.topic}/{log.partition} before "
            "they were read.",
            next_step="set IMGPIPELINE_ALLOW_GAPS=true to continue; the loss is then recorded as a gap `expired`",
        )
    return Resumption(end, Gap(end.offset, log.log_start, GapReason.EXPIRED))


def _ask_again(settings: Settings, log: LogRange) -> LogRange:
    """Reads the log once more: another run may meanwhile have legitimately passed its old end."""
    fresh = next((other for other in read_log(settings) if other.at == log.at), None)
    if fresh is None or fresh.chain != log.chain:
        raise TransientError(f"The topic {log.topic} was re-created while its ledger was read.")
    return fresh


def find_contradiction(settings: Settings, log: LogRange, end: ChainEnd) -> str | None:
    """Returns why a log is not the one that a chain was built from, or None if nothing contradicts it.

    The last record of the chain is compared with the same offset of the log, if the log still has it.

    Args:
        settings: Name the broker.
        log: The log, read after the end.
        end: The end of the log's present chain.

    Raises:
        TransientError: The broker does not answer.
    """
    if end.offset > log.log_end:
        return f"the ledger ends at {end.offset}, the log already at {log.log_end}"
    mark = end.header.fingerprint if end.header else None
    if mark is None or mark.offset < log.log_start:
        return None
    record = read_record(settings, log.at, mark.offset)
    if record is None or Fingerprint.of(record) == mark:
        return None
    return f"the record at offset {mark.offset} is not the one that was read there before"


def _not_the_same(log: LogRange, why: str) -> LedgerError:
    return LedgerError(
        f"The log of {log.topic}/{log.partition} (topic id {log.topic_id}) is not the one that its chain was made of: "
        f"{why}. It was truncated, or its topic was re-created.",
        next_step="find out what happened to the log; then run `imgpipeline ledger new-chain`, which starts a new "
        "chain for the log and keeps the old one as it is",
    )
