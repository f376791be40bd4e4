"""Where a run goes on: the end of each chain, held against the log it belongs to.

Owns the check that the log is still the one that the chain was made of, and the gap that is recorded where records
were gone before they were read. It promises that nothing is skipped silently.
"""

from dataclasses import dataclass

from imgpipeline.contracts.log import LogRange
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.errors import LedgerError, TransientError
from imgpipeline.ledger import ChainEnd, Fingerprint, find_end
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.stream.fetch import read_record
from imgpipeline.stream.log import read_log


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where one partition goes on."""

    end: ChainEnd
    """The chain's end: the next segment starts there."""
    gap: Gap | None
    """What has to be recorded first: offsets that are gone. None where there are none."""

    @property
    def position(self) -> int:
        """The first offset to fetch."""
        return self.gap.end if self.gap else self.end.offset


def resume_chain(settings: Settings, store: ObjectStore, log: LogRange) -> Resumption:
    """Finds where a partition goes on.

    Args:
        settings: Say whether lost records may be skipped.
        store: Holds the ledger.
        log: The partition's log, asked for just now.

    Returns:
        The end of its chain, and the gap to record first.

    Raises:
        LedgerError: The log is not the one that the chain was made of, or records were lost that nobody has read.
        TransientError: Store or broker do not answer, or the topic was made anew meanwhile.
    """
    end = find_end(store, log.chain)
    if end.offset > log.log_end:
        log = _ask_again(settings, log)
    if end.offset > log.log_end:
        raise _not_the_same(log, f"the ledger ends at {end.offset}, the log already at {log.log_end}")
    _check_fingerprint(settings, log, end)
    if log.log_start <= end.offset:
        return Resumption(end, None)
    if end.header is None:
        return Resumption(end, Gap(0, log.log_start, GapReason.BEFORE_FIRST_LOOK))
    if not settings.allow_gaps:
        raise LedgerError(
            f"Kafka has dropped the offsets [{end.offset}, {log.log_start}) of {log.topic}/{log.partition} before "
            "they were read.",
            next_step="set IMGPIPELINE_ALLOW_GAPS=true to go on; the loss is then recorded as a gap `expired`",
        )
    return Resumption(end, Gap(end.offset, log.log_start, GapReason.EXPIRED))


def _ask_again(settings: Settings, log: LogRange) -> LogRange:
    """Asks for the log once more: since it was asked, another run may rightly have come beyond its end."""
    fresh = next((other for other in read_log(settings) if other.partition == log.partition), None)
    if fresh is None or fresh.chain != log.chain:
        raise TransientError(f"The topic {log.topic} was made anew while its ledger was looked for.")
    return fresh


def _check_fingerprint(settings: Settings, log: LogRange, end: ChainEnd) -> None:
    """Holds the last record of the chain against the same offset of the log, where it still is there."""
    mark = end.header.fingerprint if end.header else None
    if mark is None or mark.offset < log.log_start:
        return
    record = read_record(settings, log.partition, mark.offset)
    if record is not None and Fingerprint.of(record) != mark:
        raise _not_the_same(log, f"the record at offset {mark.offset} is not the one that was read there before")


def _not_the_same(log: LogRange, why: str) -> LedgerError:
    return LedgerError(
        f"The log of {log.topic}/{log.partition} (topic id {log.topic_id}) is not the one that its chain was made of: "
        f"{why}. It was truncated, or its topic was made anew.",
        next_step="keep the ledger as it is and announce the frames in a new topic (IMGPIPELINE_KAFKA_TOPIC); "
        "`imgpipeline audit` shows what was read",
    )
