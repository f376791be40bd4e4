"""`imgpipeline ledger repair`: restores the outcomes of offsets whose segment was damaged or removed.

Segments that a bundle still has are put back byte for byte (`ledger.repair.restoring`). The others are read from Kafka
and detected again (`reread`), and put so that no offset gets two outcomes (`ledger.repair.mending`). Then the tables of
the affected days are built again. docs/repair.md explains the whole.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from kafka import KafkaAdminClient

from imgpipeline.contracts.keys import (
    ChainId,
    audit_state_key,
    is_import,
    next_chain,
    parse_segment_key,
)
from imgpipeline.contracts.log import LogRange
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, GapReason, Outcome, RecordOutcome, offsets_of
from imgpipeline.detect.repair.reread import RecordSource, check_neighbours
from imgpipeline.detect.work import FrameWork
from imgpipeline.errors import ConfigurationError, LedgerError, TransientError, UsageError
from imgpipeline.lake.build.repaired_days import build_noted_days, named_end
from imgpipeline.ledger import DayIndex, Provenance, days_of_chain, list_chains
from imgpipeline.ledger.repair.damage import BrokenStretch, ChainDamage, find_damage
from imgpipeline.ledger.repair.days_to_build import DaysToBuild
from imgpipeline.ledger.repair.mending import ChainChangedError, Made, Mender, Piece, is_lid, pieces_of
from imgpipeline.ledger.repair.repair_list import close_repair, list_repairs, still_open
from imgpipeline.ledger.repair.restoring import Restoring
from imgpipeline.ledger.repair.steps import RepairReport, RepairStep, first_step
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Clock, Settings
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.log import ask_logs, ask_topic
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.detector import Detector, self_test

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
    """Repairs the ledger.

    Args:
        settings: Name broker, store and model.
        store: Holds the ledger.
        key: Only this segment's chain, and only the range that contains it. Default: all chains.
        without_kafka: Record gaps, whatever Kafka has.
        dry_run: Change nothing; report what would be done.
        clock: Tells the time.
        progress: Called with each outcome that was put.

    Returns:
        What was done. Days that an earlier repair left to be built are built too.

    Raises:
        ConfigurationError: The topic of a chain does not exist.
        UsageError: The key is not that of a segment.
        LedgerError: The log is not the one that the chain was made of, or the damage is of a kind that cannot be
            repaired.
        TransientError: Store or broker do not answer, or other writers won the race for the repair repeatedly.
    """
    repair = _Repair(settings, store, without_kafka, clock, progress, DaysToBuild(store))
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
        return RepairReport(tuple(repair.steps), (), None, left)
    return repair.finish(left, key)


def _chains(store: ObjectStore, key: str | None) -> list[ChainId]:
    if key is None:
        return list_chains(store)
    parsed = parse_segment_key(key)
    if parsed is None:
        raise UsageError(
            f"{key} is not the key of a segment.", next_step="give one as errors name it: metadata/…/….jsonl.zst"
        )
    return [parsed[0]]


def _chosen(damage: ChainDamage, key: str | None) -> ChainDamage:
    parsed = parse_segment_key(key) if key else None
    if parsed is None:
        return damage
    at = parsed[1]
    stretches = tuple(s for s in damage.stretches if s.start <= at and (s.end is None or at < s.end))
    return ChainDamage(stretches, tuple(found for found in damage.covered if found.start == at))


@dataclass(frozen=True, slots=True)
class _Source:
    """The sources from which the outcomes of one chain can be rebuilt."""

    chain: ChainId
    settings: Settings
    log: LogRange | None
    admin: KafkaAdminClient | None
    has_successor: bool

    def end_of(self, store: ObjectStore, stretch: BrokenStretch) -> int:
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
                f"{last.key} is damaged, and the log ends at {self.log.log_end} already: it was truncated.",
                next_step="find out what happened to the log; `--without-kafka --key KEY` records a gap",
            )
        return self.log.log_end

    def pieces(self, store: ObjectStore, stretch: BrokenStretch) -> list[Piece]:
        """Returns the pieces to put; if no other writer is possible any more, offsets need no segments of their own."""
        pieces = pieces_of(stretch, self.end_of(store, stretch))
        return pieces if self.log else [replace(piece, is_tail=False) for piece in pieces]

    def is_closing(self, stretch: BrokenStretch, piece: Piece) -> bool:
        """Whether a piece is the segment that closed the chain: the last one of a chain that has a successor."""
        return self.has_successor and stretch.end is None and piece.start == stretch.objects[-1].start

    def check(self) -> None:
        """Checks that the topic is still the one that was fetched from."""
        if self.log and self.admin and ask_topic(self.admin, self.settings)[0] != self.log.topic_id:
            raise TransientError(f"The topic {self.log.topic} was re-created while it was read.")


@dataclass(slots=True)
class _Repair:
    """A repair in progress."""

    settings: Settings
    store: ObjectStore
    without_kafka: bool
    clock: Clock
    progress: Callable[[int], None]
    notes: DaysToBuild
    steps: list[RepairStep] = field(default_factory=list)
    _detector: Detector | None = field(default=None)

    def look_after(self, chain: ChainId, key: str | None, *, dry_run: bool) -> None:
        """Repairs a chain if it is broken, or plans the repair."""
        damage = _chosen(self.find_damage(chain, dry_run=dry_run), key)
        restoring = Restoring(self.store, chain, self.notes, self.progress, dry_run)
        damage = restoring.restore(damage)
        self.steps += restoring.steps
        if damage.is_none:
            return
        with self.source_of(chain) as source:
            if dry_run:
                self.steps += _planned(self.store, source, damage)
            else:
                self.mend_chain(source, damage, key)

    def find_damage(self, chain: ChainId, *, dry_run: bool) -> ChainDamage:
        """Finds the damage of a chain; if it is intact, closes its open entries in the repair list."""
        opened = [] if dry_run else [entry for entry in still_open(list_repairs(self.store)) if entry.chain == chain]
        damage = find_damage(self.store, chain)
        if not damage.stretches:
            # A paused repair can no longer put anything: each of its puts depends on the damage it has found.
            for entry in opened:
                close_repair(self.store, entry)
        return damage

    def finish(self, blocked: tuple[str, ...], key: str | None) -> RepairReport:
        """Builds the noted days, and returns what was done."""
        steps = tuple(self.steps)
        self.notes.renew()
        if steps:
            # The counts of the last audit may be outdated: the next one reads everything.
            self.store.delete(audit_state_key())
        try:
            built = build_noted_days(self.store, settings=self.settings, now=self.clock())
            return RepairReport(steps, tuple(built), None, blocked)
        except LedgerError as error:
            if key is None and not blocked:
                raise
            return RepairReport(steps, (), error.message, blocked)

    @contextlib.contextmanager
    def source_of(self, chain: ChainId) -> Iterator[_Source]:
        """Finds the log that a chain was built from, if it still exists."""
        settings = self.settings.model_copy(update={"kafka_topic": chain.topic})
        has_successor = next_chain(chain) in list_chains(self.store, chain.topic)
        if self.without_kafka or has_successor:
            yield _Source(chain, settings, None, None, has_successor)
            return
        if is_import(chain):
            raise ConfigurationError(
                f"{chain} is an import: Kafka has no copy of it.",
                next_step="`imgpipeline ledger repair --without-kafka --key KEY` records a gap in place of one "
                "segment; then put its rows into a file of their own and import that one under another --name",
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
            yield _Source(chain, settings, next(same, None), admin, has_successor)

    def mend_chain(self, source: _Source, damage: ChainDamage, key: str | None) -> None:
        """Repairs until nothing is broken: others may write at the same time."""
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
            f"Others wrote {_ROUNDS} times to {source.chain} during its repair.", next_step="run the command again"
        )

    def _mender(self, source: _Source, stretch: BrokenStretch | None) -> Mender:
        made_by = Provenance("", "", self.settings.results_hash(), _MADE_BY)
        if self._detector is not None:
            use = self._detector.use
            made_by = replace(
                made_by, model_name=use.model_name, model_sha256=use.model_sha256, precision=use.precision
            )
        before = stretch.before.fingerprint if stretch and stretch.before else None
        return Mender(self.store, source.chain, made_by, self.clock, DayIndex(self.store), before)

    def _mend(self, source: _Source, stretch: BrokenStretch) -> None:
        if source.log:
            check_neighbours(source.settings, source.log, stretch)
        pieces = source.pieces(self.store, stretch)
        records = self._records(source)
        mender = self._mender(source, stretch)
        days = days_of_chain(self.store, source.chain, stretch.start, pieces[-1].end)
        self.notes.cover(days)

        def make(piece: Piece) -> Iterator[Made]:
            if source.is_closing(stretch, piece):
                return iter([(Gap(piece.start, piece.end, GapReason.CLOSED), None)])
            return records.make(source.chain.partition, piece.start, piece.end)

        for done in mender.mend(stretch, pieces, make, lambda outcomes: self._check(source, outcomes), days=days):
            start, end = done.piece.start, done.piece.end
            if offsets_of(done.outcomes[0])[0] == start:
                self.steps.append(first_step(source.chain, start, end, done.bad, done.kept))
            self.steps[-1] = self.steps[-1].with_outcomes(done.outcomes)
            self.progress(len(done.outcomes))

    def _records(self, source: _Source) -> RecordSource:
        if source.log and self._detector is None:
            self._detector = load_configured_detector(self.settings)
        work = None
        if self._detector is not None:
            work = FrameWork(self.settings, ImageReader(self.store, self.settings), self._detector, self.clock)
        return RecordSource(source.settings, source.log, work)

    def _check(self, source: _Source, outcomes: list[Outcome]) -> None:
        """Ensures before a segment is put that its days are noted, the topic is the same, and the model works."""
        source.check()
        kinds = {type(outcome) for outcome in outcomes}
        if DeadLetter in kinds and Frame not in kinds and self._detector:
            self_test(self._detector)
        self.notes.cover(o.day for o in outcomes if isinstance(o, RecordOutcome) and o.day)


def _planned(store: ObjectStore, source: _Source, damage: ChainDamage) -> Iterator[RepairStep]:
    for found in damage.covered:
        yield RepairStep(source.chain, found.key, found.start, found.start, found.why, "removed")
    for stretch in damage.stretches:
        if source.log:
            check_neighbours(source.settings, source.log, stretch)
        over = {found.start: found for found in stretch.objects}
        for piece in source.pieces(store, stretch):
            bad = over.get(piece.start)
            first = source.log.log_start if source.log else piece.end
            made_of = "gap" if first >= piece.end else "kafka" if first <= piece.start else "kafka and gap"
            yield first_step(source.chain, piece.start, piece.end, bad, None, made_of)
