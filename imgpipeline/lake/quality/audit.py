"""Audits that every offset has exactly one outcome, and that tables and summaries agree with the ledger.

The ends of the chains are fixed before Kafka is asked for its logs. A ledger that ends after its log is therefore a
contradiction, not a race. A ledger with imports only has no logs. An audit continues where the last one ended;
`full` reads everything again. It reports every fault, and skips only what it found correct before. A day that waits for
its first build is counted and reported as not compared.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from hashlib import sha256

from imgpipeline.contracts.keys import Bucket, ChainId, day_table_key, is_import, next_chain
from imgpipeline.contracts.records import LogRange
from imgpipeline.errors import LedgerError, PermanentError
from imgpipeline.lake.days.day_catalog import TABLES, KnownDays, join_versions
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.days.summary_inputs import list_versions
from imgpipeline.lake.quality.audit_report import AuditReport, DayAudit, PartitionAudit, SummaryAudit
from imgpipeline.lake.quality.audit_state import AuditedDay, AuditState, read_state, write_state, write_verdicts
from imgpipeline.lake.quality.table_audit import DayReader, compare_day, compare_summary, count_unbuilt
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES
from imgpipeline.lake.storage.manifest import covered_ends, have_equal_ends, read_stored
from imgpipeline.ledger.audit import ChainAudit, FixedEnd, audit_chain, fix_end, stray_keys
from imgpipeline.ledger.chain import current_chain
from imgpipeline.ledger.days import has_segment, index_buckets, known_days
from imgpipeline.ledger.reading import list_chains
from imgpipeline.ledger.session_books import find_later, find_repeats, join_books
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

Progress = Callable[[int, int], None]
"""Called with the number of segments read, and of segments to read as far as known."""


def audit(
    store: ObjectStore,
    read_logs: Callable[[], Sequence[LogRange]],
    *,
    full: bool = False,
    allow_gaps: bool = False,
    progress: Progress | None = None,
    now: datetime,
    memory: str | None = None,
) -> AuditReport:
    """Audits the ledger, the day tables and the summaries.

    Args:
        read_logs: Asks Kafka for the logs. Called once, after the ends of the chains were fixed, unless all chains are
            imports.
        full: Read every segment again and compare the bundles with them. Otherwise read only segments since the last
            audit, through bundles if there are any.
        allow_gaps: Accept offsets that expired unread.
        progress: Called after each segment with the number of offsets that were read, and of those to read.
        now: Time of the audit, for its state and verdicts.
        memory: Memory limit of DuckDB (the setting `duckdb_memory`).

    Returns:
        The report; `problems` lists all faults.

    Raises:
        TransientError: The store does not answer.
        ImgpipelineError: What `read_logs` raises.
    """
    before = AuditState() if full else read_state(store)
    hints = {chain: walked.position for chain, walked in before.chains.items()}
    fixed_ends = map_ahead(lambda chain: fix_end(store, chain, hint=hints.get(chain)), list_chains(store))
    ends = _with_lost_closings(list(fixed_ends))
    closed = {end.chain for end in ends if end.is_closed}
    has_logs = not ends or any(not is_import(end.chain) for end in ends)
    logs = {current_chain(log.chain, closed): log for log in read_logs()} if has_logs else {}
    fixed = {end.chain: end.offset for end in ends}
    if any(walked.position > fixed.get(chain, 0) for chain, walked in before.chains.items()):
        before = AuditState()  # a chain became shorter, so sessions over several chains may no longer be settled
    after = AuditState(known=_known_before(store, before))
    work = _Audit(store, before, after, fixed, progress or _silent, full, memory)
    partitions = work.audit_partitions(ends, logs)
    days, summaries = work.audit_days(), work.audit_summaries()
    strays = tuple(stray_keys(store)) if full else ()
    report = AuditReport(partitions, days, summaries, allow_gaps, strays)
    work.after.verdicts = write_verdicts(store, report, before.verdicts, full=full, now=now)
    write_state(store, work.after, now=now)
    return report


def _known_before(store: ObjectStore, before: AuditState) -> KnownDays:
    """Returns what earlier audits noted about the days; without notes, all days, with nothing else known."""
    if not before.chains:
        return KnownDays()
    if before.known is not None:
        return before.known
    known = KnownDays()
    known.begin(known_days(store))
    return known


def _with_lost_closings(ends: list[FixedEnd]) -> list[FixedEnd]:
    """Adds a problem to each chain that continues in a next one although its closing segment is missing."""
    known = {end.chain for end in ends}
    return [
        end
        if end.is_closed or end.problems or next_chain(end.chain) not in known
        else replace(
            end,
            problems=(f"{end.chain} is not closed, but {next_chain(end.chain)} exists: its last segment was removed.",),
        )
        for end in ends
    ]


def _silent(done: int, total: int) -> None:
    """Ignores progress."""


@dataclass(slots=True)
class _Index:
    """The day index after the ends were fixed, listed per day on demand."""

    store: ObjectStore
    listed: dict[date, frozenset[Bucket]] = field(default_factory=dict)

    def of(self, day: date) -> frozenset[Bucket]:
        if day not in self.listed:
            self.listed[day] = frozenset(index_buckets(self.store, day))
        return self.listed[day]

    def __contains__(self, bucket: object) -> bool:
        return isinstance(bucket, Bucket) and bucket in self.of(bucket.day)


@dataclass(slots=True)
class _Audit:
    """One running audit."""

    store: ObjectStore
    before: AuditState
    after: AuditState
    ends: Mapping[ChainId, int]
    progress: Progress
    full: bool
    memory: str | None
    done: int = 0
    total: int = 0
    known: KnownDays = field(init=False)
    indexed: _Index = field(init=False)
    listed: dict[str, dict[date, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.known = self.after.known or KnownDays()
        self.indexed = _Index(self.store)
        self.listed = {table: list_versions(self.store, table) for table in (*DAY_TABLE_NAMES, *SUMMARIES)}

    def step(self, offsets: int) -> None:
        self.done += offsets
        self.total = max(self.total, self.done)
        self.progress(self.done, self.total)

    def audit_partitions(
        self, ends: Sequence[FixedEnd], logs: Mapping[ChainId, LogRange]
    ) -> tuple[PartitionAudit, ...]:
        since = {end.chain: self._since(end) for end in ends}
        self.total = sum(end.offset - since[end.chain].position for end in ends)
        found = {chain: ChainAudit(chain) for chain in logs}
        for end in ends:
            walked = audit_chain(
                self.store,
                end,
                since=since[end.chain],
                through_bundles=not self.full,
                indexed=self.indexed,
                compare_bundles=self.full,
                seen=lambda header: self.known.note(header.chain, header.start, header.days),
                progress=self.step,
            )
            problems = tuple(dict.fromkeys((*walked.problems, *end.problems)))
            found[end.chain] = replace(walked, problems=problems)
            if walked.ok and not end.problems:
                self.after.chains[end.chain] = walked
            else:
                self._doubt_days()
        problems_of = self._join_books(found)
        return tuple(PartitionAudit(found[chain], logs.get(chain), problems_of[chain]) for chain in sorted(found))

    def _join_books(self, found: Mapping[ChainId, ChainAudit]) -> Mapping[ChainId, tuple[str, ...]]:
        """Returns the problems of sessions by one chain of each, and drops settled sessions from the state."""
        books = {chain: walked.books for chain, walked in found.items()}
        problems: dict[ChainId, tuple[str, ...]] = defaultdict(tuple)
        settled = set()
        ends = {chain: walked.position for chain, walked in found.items()}
        for key, joined in join_books(books, ends).items():
            session = joined
            with contextlib.suppress(LedgerError, ObjectMissingError):  # the walk reported that segment
                session = find_later(self.store, find_repeats(self.store, joined))
            problems[min(session.parts)] += tuple(session.problems())
            # A chain that the next audit walks from its start contributes its part of the session again.
            if session.is_settled and session.parts.keys() <= self.after.chains.keys():
                settled.add(key)
        for chain, walked in self.after.chains.items():
            self.after.chains[chain] = replace(walked, books=walked.books.without(settled))
        return problems

    def _since(self, end: FixedEnd) -> ChainAudit:
        before = self.before.chains.get(end.chain)
        return before if before and before.position <= end.offset else ChainAudit(end.chain)

    def _doubt_days(self) -> None:
        """Forgets all notes, because the days of unreadable segments are only in the index."""
        self.after.known = None
        for day in {*self.known.days, *known_days(self.store)}:
            self.known.doubt(day)

    def audit_days(self) -> tuple[DayAudit, ...]:
        stored: dict[date, dict[str, str]] = defaultdict(dict)
        for table in DAY_TABLE_NAMES:
            for day, e_tag in self.listed[table].items():
                stored[day][table] = e_tag
        built = [self._audit_day(day, stored[day]) for day in sorted(stored)]
        unbuilt = self._audit_unbuilt(
            {day: sorted(self.indexed.of(day)) for day in sorted(self.known.days.keys() - stored.keys())}
        )
        return tuple(sorted((*built, *unbuilt), key=lambda found: found.day))

    def _audit_unbuilt(self, buckets: Mapping[date, Sequence[Bucket]]) -> Iterable[DayAudit]:
        """Counts days without tables, unless the last audit counted them up to the same ends."""
        marks = {day: self._ends_mark(several) for day, several in buckets.items()}
        kept = {day: self.before.days[day].figures for day, mark in marks.items() if self._is_known(day, mark)}
        counted = count_unbuilt(
            self.store, {day: buckets[day] for day in buckets.keys() - kept.keys()}, self.ends, self.step, self.memory
        )
        known = {day: DayAudit(day, figures, stale=True, missing=DAY_TABLE_NAMES) for day, figures in kept.items()}
        for day, found in {**known, **counted}.items():
            if not found.problems:
                self.after.days[day] = AuditedDay(marks[day], "", found.figures)
            # An index entry may belong to a segment that was never stored.
            if not found.figures.has_nothing:
                yield found

    def _is_known(self, day: date, e_tags: str) -> bool:
        return day in self.before.days and self.before.days[day].e_tags == e_tags

    def _ends_mark(self, buckets: Iterable[Bucket]) -> str:
        """Returns what stands for the e-tags of a day without tables, from the ends of its chains."""
        chains = sorted({bucket.chain for bucket in buckets} & self.ends.keys())
        return f"not built {sha256(repr([(str(chain), self.ends[chain]) for chain in chains]).encode()).hexdigest()}"

    def _audit_day(self, day: date, stored: Mapping[str, str]) -> DayAudit:
        if self._is_known(day, " ".join(stored.get(table, "") for table in DAY_TABLE_NAMES)):
            audited = self.before.days[day]
            found, e_tags = DayAudit(day, audited.figures, False, versions=audited.versions), audited.e_tags
        else:
            found, e_tags = compare_day(DayReader(self.store, day, self.step, self.memory))
        if found.versions and found.ok:
            self.after.days[day] = AuditedDay(e_tags, found.versions, found.figures)
        try:
            return replace(found, stale=self._is_stale(day, join_versions(map(stored.get, DAY_TABLE_NAMES))))
        except (LedgerError, PermanentError) as error:
            problems = dict.fromkeys((*found.problems, f"{day}: {error}"))
            return replace(found, stale=True, problems=tuple(problems))

    def _is_stale(self, day: date, listed: str) -> bool:
        if self.known.is_complete(day, TABLES, listed):
            return False
        found = [read_stored(self.store, day_table_key(table, day)) for table in DAY_TABLE_NAMES]
        manifests = [stored.manifest if stored else None for stored in found]
        if None in manifests or not have_equal_ends(manifests):
            return True
        covered = covered_ends(*manifests)
        is_stale = self.known.has_newer_segments(day, covered)
        if is_stale is None:
            is_stale = has_segment(self.store, day, self.ends, since=covered, buckets=self.indexed.of(day))
        if not is_stale:
            self.known.note_complete(day, TABLES, join_versions(stored.e_tag if stored else None for stored in found))
        return is_stale

    def audit_summaries(self) -> tuple[SummaryAudit, ...]:
        return tuple(
            found
            for name in sorted(SUMMARIES)
            for day in sorted(self.listed[name])
            for found in self._audit_summary(name, day)
        )

    def _audit_summary(self, name: str, day: date) -> Iterable[SummaryAudit]:
        e_tags = " ".join(self.listed[table].get(day, "") for table in (name, *SUMMARIES[name].inputs))
        known = self.before.summaries.get((name, day))
        if known and known[0] == e_tags:
            found = SummaryAudit(name, day, True, known[1])
        else:
            try:
                found = compare_summary(DayReader(self.store, day, self.step, self.memory), name)
            except ObjectMissingError:
                return
        if found.ok:
            self.after.summaries[(name, day)] = (e_tags, found.stale)
        yield found
