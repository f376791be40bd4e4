"""`imgpipeline ledger repair`: restores the outcomes of offsets whose segment was damaged or removed.

Segments that a bundle still has are put back byte for byte (`ledger.repair.mending`). The others are read from Kafka
and detected again (`RepairSource`), and put so that no offset gets two outcomes (`ledger.repair.mending`). This makes
the tables of the affected days stale. docs/repair.md explains the whole process.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from kafka import KafkaAdminClient

from imgpipeline.contracts.keys import ChainId, audit_state_key, day_table_key, is_import, next_chain, parse_segment_key
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, GapReason, Outcome, offsets_of
from imgpipeline.contracts.records import LogRange, Partition
from imgpipeline.contracts.times import Clock
from imgpipeline.detect.resume import has_record
from imgpipeline.detect.work import FrameWork
from imgpipeline.errors import ConfigurationError, LedgerError, TransientError, UsageError
from imgpipeline.lake.days.day_tables import list_days
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES, FRAMES
from imgpipeline.lake.storage.manifest import read_manifest
from imgpipeline.ledger.days import DayIndex, days_of_chain
from imgpipeline.ledger.reading import list_chains
from imgpipeline.ledger.repair.damage import (
    BrokenStretch,
    ChainDamage,
    RepairReport,
    RepairStep,
    find_damage,
    step_of,
)
from imgpipeline.ledger.repair.mending import ChainChangedError, Made, Mender, Piece, Restoring, is_lid, pieces_of
from imgpipeline.ledger.repair.repair_list import close_repair, list_repairs, still_open
from imgpipeline.ledger.segment import Fingerprint, Provenance
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin, open_consumer
from imgpipeline.stream.fetch import FETCH_OPTIONS, Hole, HoleExplainer, LaneFetcher
from imgpipeline.stream.log import ask_logs, ask_topic
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.detector import Detector, self_test

_POLL_S = 0.2
_SILENT_S = 30.0


@dataclass(frozen=True, slots=True)
class RepairSource:
    """The source from which the outcomes of one chain can be made again."""

    chain: ChainId
    settings: Settings
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
            return max(last.start + 1, _named_end(store, self.chain))
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


def _named_end(store: ObjectStore, chain: ChainId) -> int:
    """Returns the greatest end of a chain in the manifests of day tables, which the chain once reached; 0 if none."""
    manifests = (read_manifest(store, table, day) for table in DAY_TABLE_NAMES for day in list_days(store, table))
    return max((manifest.ends.get(chain, 0) for manifest in manifests if manifest), default=0)


@contextlib.contextmanager
def open_source(
    settings: Settings, store: ObjectStore, chain: ChainId, *, without_kafka: bool
) -> Iterator[RepairSource]:
    """Finds the log that a chain was built from, if it still exists.

    Raises:
        ConfigurationError: The chain is an import, or its topic does not exist.
    """
    settings = settings.model_copy(update={"kafka_topics": (chain.topic,)})
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


_MADE_BY = "imgpipeline ledger repair"
_ROUNDS = 8


def repair_ledger(
    settings: Settings,
    store: ObjectStore,
    *,
    key: str | None = None,
    without_kafka: bool = False,
    dry_run: bool = False,
    clock: Clock,
    progress: Callable[[int], None] = lambda _: None,
) -> RepairReport:
    """Repairs the ledger: all chains, or only the range that contains the segment with a `key`.

    `without_kafka` records gaps even for records that Kafka still has; `progress` is called with the number of outcomes
    after each put.

    Returns:
        What was done, including what an earlier repair left to be done.

    Raises:
        ConfigurationError: The topic of a chain does not exist.
        UsageError: The key is not that of a segment.
        LedgerError: The log is not the one that the chain was built from, or the damage cannot be repaired.
        TransientError: Store or broker do not answer, or the repair lost the write race repeatedly.
    """
    repair = _Repair(settings, store, without_kafka, clock, progress)
    earlier = 0 if dry_run else len(list_repairs(store))
    blocked: list[LedgerError | ConfigurationError] = []
    for chain in _chains(store, key):
        try:
            repair.look_after(chain, key, dry_run=dry_run)
        except (LedgerError, ConfigurationError) as error:
            blocked.append(error)  # a chain that cannot be repaired does not prevent the repair of the others
    if blocked and not repair.steps:
        raise blocked[0]
    left = tuple(str(error) for error in blocked)
    if dry_run:
        return RepairReport(tuple(repair.steps), (), left)
    days = sorted({day for entry in list_repairs(store, after=earlier) for day in entry.days})
    if repair.steps or days:
        store.delete(audit_state_key())
    stale = tuple(day for day in days if store.head(day_table_key(FRAMES.name, day)))
    return RepairReport(tuple(repair.steps), stale, left)


def _chains(store: ObjectStore, key: str | None) -> list[ChainId]:
    if key is None:
        return list_chains(store)
    parsed = parse_segment_key(key)
    if parsed is None:
        raise UsageError(
            f"{key} is not the key of a segment.", next_step="give a key as in error messages: metadata/…/….jsonl.zst"
        )
    return [parsed[0]]


def _chosen(damage: ChainDamage, key: str | None) -> ChainDamage:
    parsed = parse_segment_key(key) if key else None
    if parsed is None:
        return damage
    at = parsed[1]
    stretches = tuple(s for s in damage.stretches if s.start <= at and (s.end is None or at < s.end))
    return ChainDamage(stretches, tuple(found for found in damage.covered if found.start == at))


@dataclass(slots=True)
class _Repair:
    """A repair in progress."""

    settings: Settings
    store: ObjectStore
    without_kafka: bool
    clock: Clock
    progress: Callable[[int], None]
    steps: list[RepairStep] = field(default_factory=list)
    _detector: Detector | None = field(default=None)

    def look_after(self, chain: ChainId, key: str | None, *, dry_run: bool) -> None:
        """Repairs a chain if it is broken, or plans the repair."""
        damage = _chosen(self.find_damage(chain, dry_run=dry_run), key)
        restoring = Restoring(self.store, chain, self.progress, dry_run)
        damage = restoring.restore(damage)
        self.steps += restoring.steps
        if damage.is_none:
            return
        with open_source(self.settings, self.store, chain, without_kafka=self.without_kafka) as source:
            if dry_run:
                self.steps += _planned(self.store, source, damage)
            else:
                self.mend_chain(source, damage, key)

    def find_damage(self, chain: ChainId, *, dry_run: bool) -> ChainDamage:
        """Finds the damage of a chain; if it is intact, closes its open entries in the repair list."""
        opened = [] if dry_run else [entry for entry in still_open(list_repairs(self.store)) if entry.chain == chain]
        damage = find_damage(self.store, chain)
        if not damage.stretches:
            # A paused repair can no longer put anything, because each put requires the damage that it found.
            for entry in opened:
                close_repair(self.store, entry)
        return damage

    def mend_chain(self, source: RepairSource, damage: ChainDamage, key: str | None) -> None:
        """Repairs until nothing is broken, since other processes may write at the same time."""
        for _ in range(_ROUNDS):
            try:
                for found in damage.covered:
                    kept = self._mender(source, None).remove_covered(found)
                    at = found.start
                    self.steps.append(RepairStep(source.chain, found.key, at, at, found.why, "removed", kept=kept))
                for stretch in damage.stretches:
                    self._mend(source, stretch)
            except ChainChangedError:
                pass
            damage = _chosen(self.find_damage(source.chain, dry_run=False), key)
            if damage.is_none:
                return
        raise TransientError(
            f"The repair of {source.chain} lost the write race {_ROUNDS} times.", next_step="run the command again"
        )

    def _mender(self, source: RepairSource, stretch: BrokenStretch | None) -> Mender:
        made_by = Provenance("", "", self.settings.results_hash(), _MADE_BY)
        if self._detector is not None:
            use = self._detector.use
            made_by = replace(
                made_by, model_name=use.model_name, model_sha256=use.model_sha256, precision=use.precision
            )
        before = stretch.before.fingerprint if stretch and stretch.before else None
        return Mender(self.store, source.chain, made_by, self.clock, DayIndex(self.store), before)

    def _mend(self, source: RepairSource, stretch: BrokenStretch) -> None:
        source.check_neighbours(stretch)
        pieces = source.pieces(self.store, stretch)
        work = self._work(source)
        mender = self._mender(source, stretch)
        days = days_of_chain(self.store, source.chain, stretch.start, pieces[-1].end)
        # The next audit reads everything; deleted now too, since this process may die after its last put.
        self.store.delete(audit_state_key())
        for done in mender.mend(
            stretch,
            pieces,
            lambda piece: source.make(work, stretch, piece),
            lambda outcomes: self._check(source, outcomes),
            days=days,
        ):
            start, end = done.piece.start, done.piece.end
            if offsets_of(done.outcomes[0])[0] == start:
                made_of = source.describe(done.piece)
                self.steps.append(step_of(source.chain, start, end, done.bad, made_of, done.kept))
            self.progress(len(done.outcomes))

    def _work(self, source: RepairSource) -> FrameWork | None:
        if source.log is None:
            return None
        if self._detector is None:
            self._detector = load_configured_detector(self.settings)
        return FrameWork(self.settings, ImageReader(self.store, self.settings), self._detector, self.clock)

    def _check(self, source: RepairSource, outcomes: list[Outcome]) -> None:
        """Ensures before a segment is put that the topic is the same and the model works."""
        source.check_topic()
        kinds = {type(outcome) for outcome in outcomes}
        if DeadLetter in kinds and Frame not in kinds and self._detector:
            self_test(self._detector)


def _planned(store: ObjectStore, source: RepairSource, damage: ChainDamage) -> Iterator[RepairStep]:
    for found in damage.covered:
        yield RepairStep(source.chain, found.key, found.start, found.start, found.why, "removed")
    for stretch in damage.stretches:
        source.check_neighbours(stretch)
        over = {found.start: found for found in stretch.objects}
        for piece in source.pieces(store, stretch):
            yield step_of(source.chain, piece.start, piece.end, over.get(piece.start), source.describe(piece))
