"""Reads an offset range from Kafka again and makes its outcomes; what Kafka no longer has becomes a gap `damaged`."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from imgpipeline.contracts.log import LogRange, Partition
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.detect.work import FrameWork
from imgpipeline.errors import LedgerError, TransientError
from imgpipeline.ledger import Fingerprint
from imgpipeline.ledger.repair.damage import BrokenStretch
from imgpipeline.ledger.repair.mending import Made
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole, LaneFetcher, read_record
from imgpipeline.stream.gap_reasons import HoleExplainer

_POLL_S = 0.2
_SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class RecordSource:
    """Where the records of one chain are read again."""

    settings: Settings
    """Name broker and topic."""
    log: LogRange | None
    """The log that the chain was built from; None if it is gone, or if another one has its name."""
    work: FrameWork | None
    """Turns records into outcomes; None if there is no log."""

    def make(self, partition: int, start: int, end: int) -> Iterator[Made]:
        """Yields the outcomes of `[start, end)`, in order, with gaps `damaged` for what Kafka no longer has.

        Raises:
            TransientError: Store or broker do not answer.
            PermanentError: The environment is broken.
        """
        first = end if self.log is None or self.work is None else min(max(start, self.log.log_start), end)
        if first > start:
            yield Gap(start, first, GapReason.DAMAGED), None
        if self.work is not None and first < end:
            yield from self._read(self.work, partition, first, end)

    def _read(self, work: FrameWork, partition: int, start: int, end: int) -> Iterator[Made]:
        at = Partition(self.settings.kafka_topic, partition)
        with open_consumer(self.settings, **FETCH_OPTIONS) as consumer, HoleExplainer(self.settings) as holes:
            fetcher = LaneFetcher(consumer, self.settings, {at: start})
            position, heard_at_s = start, time.monotonic()
            while position < end:
                for step in fetcher.poll(_POLL_S):
                    if position >= end:
                        return
                    if isinstance(step, Hole):
                        yield from ((gap, None) for gap in holes.explain(Hole(at, position, min(step.end, end))))
                        position = step.end
                    else:
                        yield work.work(step), Fingerprint.of(step)
                        position = step.offset + 1
                    heard_at_s = time.monotonic()  # processing a record is not the broker's silence
                if time.monotonic() - heard_at_s > _SILENT_S:
                    raise TransientError(
                        f"The broker did not send {at} from {position} to {end}.",
                        next_step="run the command again; finished repairs are kept",
                    )


def check_neighbours(settings: Settings, log: LogRange, stretch: BrokenStretch) -> None:
    """Compares the intact segments before and after a broken range with the log.

    Raises:
        LedgerError: A record differs from the one read before: this is another log with the same id.
        TransientError: The broker does not answer.
    """
    for header in (stretch.before, stretch.behind):
        mark = header.fingerprint if header else None
        if mark is None or not log.log_start <= mark.offset:
            continue
        record = read_record(settings, log.at, mark.offset) if mark.offset < log.log_end else None
        if mark.offset >= log.log_end or (record is not None and Fingerprint.of(record) != mark):
            raise _another_log(log, mark.offset)


def _another_log(log: LogRange, offset: int) -> LedgerError:
    return LedgerError(
        f"The log of {log.topic}/{log.partition} is not the one that its chain was made of: the record at offset "
        f"{offset} is not the one that was read there before. Nothing was repaired from it.",
        next_step="find out what happened to the log; `--without-kafka --key KEY` records a gap for one segment",
    )
