"""What is left of the Kafka log of a chain under repair, and the outcomes made from it."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kafka import KafkaAdminClient

from imgpipeline.contracts.keys import ChainId, is_import, next_chain
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.records import LogRange, Partition
from imgpipeline.detect.resume import has_record
from imgpipeline.detect.work import FrameWork
from imgpipeline.errors import ConfigurationError, LedgerError, TransientError
from imgpipeline.lake.build.stale_days import named_end
from imgpipeline.ledger import Fingerprint, list_chains
from imgpipeline.ledger.repair.damage import BrokenStretch
from imgpipeline.ledger.repair.mending import Made, Piece, is_lid, pieces_of
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin, open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole, HoleExplainer, LaneFetcher
from imgpipeline.stream.log import ask_logs, ask_topic

_POLL_S = 0.2
_SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class RepairSource:
    """The source from which the outcomes of one chain can be made again."""

    chain: ChainId
    """The chain under repair."""
    settings: Settings
    """Name the broker and the chain's topic."""
    log: LogRange | None
    """The log that the chain was built from; None if it is gone, was replaced, or is not to be read."""
    admin: KafkaAdminClient | None
    """Client of the broker; None if Kafka is not to be read."""
    has_successor: bool
    """Whether the chain is closed and its log continues in the next chain."""

    def pieces(self, store: ObjectStore, stretch: BrokenStretch) -> list[Piece]:
        """Returns the pieces to put; without a log there are no other writers, so no offset needs its own segment.

        Raises:
            LedgerError: The log was truncated below the damaged segment.
        """
        pieces = pieces_of(stretch, self._end_of(store, stretch))
        return pieces if self.log else [replace(piece, is_tail=False) for piece in pieces]

    def _end_of(self, store: ObjectStore, stretch: BrokenStretch) -> int:
        """Returns where a broken range ends, even if no segment says so."""
        last = stretch.objects[-1] if stretch.objects else None
        if stretch.end is not None:
            return stretch.end
        if last is None or self.has_successor or is_lid(last):
            return (last.start if last else stretch.start) + 1
        if self.log is None:
            return max(last.start + 1, named_end(store, self.chain))
        if self.log.log_end <= last.start:
            raise LedgerError(
                f"{last.key} is damaged, and the log already ends at {self.log.log_end}: it was truncated.",
                next_step="find out what happened to the log; `--without-kafka --key KEY` records a gap",
            )
        return self.log.log_end

    def describe(self, piece: Piece) -> str:
        """Returns what the outcomes of a piece will be made of, as in `RepairStep.source`."""
        first = self._first_readable(piece)
        return "gap" if first >= piece.end else "kafka" if first <= piece.start else "kafka and gap"

    def _first_readable(self, piece: Piece) -> int:
        return piece.end if self.log is None else min(max(piece.start, self.log.log_start), piece.end)

    def check_neighbours(self, stretch: BrokenStretch) -> None:
        """Compares the intact segments before and after a broken range with the log, if there is one.

        Raises:
            LedgerError: A record differs from the one read before: this is another log with the same id.
            TransientError: The broker does not answer.
        """
        log = self.log
        for header in (stretch.before, stretch.behind) if log else ():
            mark = header.fingerprint if header else None
            if log is None or mark is None or has_record(self.settings, log, mark):
                continue
            raise LedgerError(
                f"The log of {log.topic}/{log.partition} is not the one that its chain was built from: the record at "
                f"offset {mark.offset} has changed or is gone. Nothing was repaired from it.",
                next_step="find out what happened to the log; `--without-kafka --key KEY` records one segment as a gap",
            )

    def check_topic(self) -> None:
        """Raises `TransientError` if the topic was re-created after its records were fetched."""
        if self.log and self.admin and ask_topic(self.admin, self.settings)[0] != self.log.topic_id:
            raise TransientError(f"The topic {self.log.topic} was re-created while it was read.")

    def make(self, work: FrameWork | None, stretch: BrokenStretch, piece: Piece) -> Iterator[Made]:
        """Yields the outcomes of a piece, in order, with gaps `damaged` for what Kafka no longer has.

        Args:
            work: Turns records into outcomes; None if there is no log.
            stretch: The broken range.
            piece: The part of it to make.

        Raises:
            TransientError: Store or broker do not answer.
            PermanentError: The environment is broken.
        """
        if self.has_successor and stretch.end is None and piece.start == stretch.objects[-1].start:
            yield Gap(piece.start, piece.end, GapReason.CLOSED), None  # the segment that closed the chain
            return
        first = piece.end if work is None else self._first_readable(piece)
        if first > piece.start:
            yield Gap(piece.start, first, GapReason.DAMAGED), None
        if work is not None and first < piece.end:
            yield from self._read(work, first, piece.end)

    def _read(self, work: FrameWork, start: int, end: int) -> Iterator[Made]:
        at = Partition(self.settings.kafka_topic, self.chain.partition)
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
                    heard_at_s = time.monotonic()  # time spent on a record does not count as the broker's silence
                if time.monotonic() - heard_at_s > _SILENT_S:
                    raise TransientError(
                        f"The broker did not send {at} from {position} to {end}.",
                        next_step="run the command again; finished repairs are kept",
                    )


@contextlib.contextmanager
def open_source(
    settings: Settings, store: ObjectStore, chain: ChainId, *, without_kafka: bool
) -> Iterator[RepairSource]:
    """Finds the log that a chain was built from, if it still exists.

    Args:
        settings: Name the broker.
        store: Holds the ledger.
        chain: The chain under repair.
        without_kafka: Do not ask Kafka: everything becomes a gap.

    Raises:
        ConfigurationError: The chain is an import, or its topic does not exist.
    """
    settings = settings.model_copy(update={"kafka_topic": chain.topic})
    has_successor = next_chain(chain) in list_chains(store, chain.topic)
    if without_kafka or has_successor:
        yield RepairSource(chain, settings, None, None, has_successor)
        return
    if is_import(chain):
        raise ConfigurationError(
            f"{chain} is an import: Kafka has no copy of it.",
            next_step="`imgpipeline ledger repair --without-kafka --key KEY` records a gap in place of one "
            "segment; then put its rows into a new file and import that one under another --name",
        )
    with open_admin(settings) as admin:
        topic_id = chain.topic_id.partition("~")[0]
        try:
            logs = ask_logs(admin, settings).ranges
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{chain} cannot be repaired from Kafka: {error.message}",
                next_step="if the topic is gone for good, `imgpipeline ledger repair --without-kafka --key KEY` "
                "records a gap in place of one segment",
            ) from error
        same = (log for log in logs if (log.topic_id, log.partition) == (topic_id, chain.partition))
        yield RepairSource(chain, settings, next(same, None), admin, has_successor)
