"""Writes the rows of an import to its chain.

An import continues at the end of its chain. The fingerprint of each segment is the SHA-256 of all rows up to its end.
Rows that are already in the ledger are read again, hashed, and compared with the fingerprint at the chain's end. So:

* A row has one outcome, no matter how often or by how many processes it is imported, or where one of them dies.
* Rows that differ from those in the ledger are an error, before anything is written.
* Only the rows of one segment are in memory.
"""

import gc
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

from imgpipeline.compat.imports.rows import (
    Limits,
    Meaning,
    Progress,
    RollingHash,
    Row,
    Rows,
    not_shown,
    outcome_of,
)
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Outcome
from imgpipeline.contracts.times import Clock
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import find_end
from imgpipeline.ledger.segment import Fingerprint, Provenance, Segment
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

SEGMENT_ROWS = 10_000
"""Segments end at multiples of this, so concurrent imports of the same rows write the same segments."""
SEGMENT_BYTES = 32 * 2**20
"""A segment ends earlier at this many bytes of rows."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of an import."""

    chain: ChainId
    rows: int
    already_there: int
    """Rows that were already in the ledger, from an earlier or concurrent import."""
    frames: int
    dead_letters: int
    codes: dict[str, int]
    segments: int
    days: tuple[date, ...]


class _OtherRowsError(Exception):
    """The ledger has other rows before an offset than the input."""

    def __init__(self, end: int) -> None:
        super().__init__()
        self.end = end


class _BehindError(Exception):
    """A concurrent import wrote shorter segments than this one, so the rows have to be read again."""


def import_rows(
    settings: Settings,
    store: ObjectStore,
    chain: ChainId,
    rows: Rows,
    meaning: Meaning,
    *,
    clock: Clock,
    progress: Progress = not_shown,
) -> ImportResult:
    """Writes rows to the ledger, after those that are already there.

    Raises:
        LedgerError: The ledger has different rows under this name, or a segment cannot be read.
        TransientError: The store does not answer; the next call continues where this one stopped.
        ConfigurationError: A file cannot be read.
        PermanentError: A file is damaged; the rows before the damage are in the ledger.
    """
    done = _Done()
    run_id = f"import-{uuid.uuid4().hex}"
    while True:
        try:
            under_way = _Import(settings, store, chain, meaning, clock, done, run_id)
            count = under_way.take_all(rows.read(progress))
        except _BehindError:
            continue
        except _OtherRowsError as found:
            difference = _first_difference(store, chain, rows, meaning, found.end)
            raise LedgerError(
                f"{chain.topic} has different rows in the ledger than in the input: {difference}. "
                "The input has changed since it was imported, or is another one.",
                next_step=f"give the rows of the ledger unchanged, and new ones after them, or {_OTHER_NAME}",
            ) from None
        return ImportResult(
            chain=chain,
            rows=count,
            already_there=count - done.frames - done.codes.total(),
            frames=done.frames,
            dead_letters=done.codes.total(),
            codes=dict(sorted(done.codes.items())),
            segments=done.segments,
            days=tuple(sorted(done.days)),
        )


@dataclass(slots=True)
class _Done:
    """The totals written by all attempts of one call."""

    frames: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    segments: int = 0
    days: set[date] = field(default_factory=set)

    def add(self, outcomes: list[Outcome]) -> None:
        letters = [outcome for outcome in outcomes if isinstance(outcome, DeadLetter)]
        self.codes.update(letter.code.value for letter in letters)
        self.frames += len(outcomes) - len(letters)
        self.segments += 1


class _Import:
    """One pass over all rows."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        chain: ChainId,
        meaning: Meaning,
        clock: Clock,
        done: _Done,
        run_id: str,
    ) -> None:
        self._settings = settings
        self._store = store
        self._meaning = meaning
        self._clock = clock
        self._done = done
        self._made_by = Provenance("", "", recipe_hash(meaning), run_id)
        self._writer = ChainWriter(store, find_end(store, chain), DayIndex(store))
        self._digest = RollingHash()
        self._batch: list[Row] = []
        self._batch_bytes = 0
        self._check_recipe()

    def take_all(self, rows: Iterator[Row]) -> int:
        """Imports all rows and returns their number."""
        for row in rows:
            self._digest.add(row.raw)
            if self._digest.rows <= self._writer.end.offset:
                self._compare()
                continue
            self._batch.append(row)
            self._batch_bytes += row.size_bytes
            if self._digest.rows % SEGMENT_ROWS == 0 or self._batch_bytes >= SEGMENT_BYTES:
                with _collector_paused():
                    self._put()
        if self._batch:
            self._put()
        if self._digest.rows < self._writer.end.offset:
            raise LedgerError(
                f"{self._writer.end.chain.topic} has {self._writer.end.offset} rows in the ledger, but the input has "
                f"{self._digest.rows}; an import only grows.",
                next_step=f"give all its rows again, or {_OTHER_NAME}",
            )
        return self._digest.rows

    def _check_recipe(self) -> None:
        header = self._writer.end.header
        made_by = header.provenance.settings_hash if header else self._made_by.settings_hash
        # A segment written by `ledger repair` has a different recipe; its rows are compared nevertheless.
        if header and header.frames + header.dead_letters and made_by != self._made_by.settings_hash:
            raise LedgerError(
                f"{self._writer.end.chain.topic} was imported with different options (columns, source, labels, time "
                "zone; for MOT files also --fps, --start, --label, --size), or by another release.",
                next_step=f"give the options of the first import, or {_OTHER_NAME}",
            )

    def _compare(self) -> None:
        header = self._writer.end.header
        mark = header.fingerprint if header else None
        if header and mark and self._digest.rows == mark.offset + 1 and self._digest.value() != mark.sha256:
            raise _OtherRowsError(header.end)

    def _put(self) -> None:
        now = self._clock()
        limits = Limits(
            self._settings.first_day,
            now + timedelta(seconds=self._settings.max_future_s),
            self._settings.dead_letter_raw_bytes,
        )
        start, end = self._digest.rows - len(self._batch), self._digest.rows
        outcomes: list[Outcome] = [
            outcome_of(row, offset, self._meaning, limits) for offset, row in enumerate(self._batch, start)
        ]
        self._batch, self._batch_bytes = [], 0
        is_mine = self._writer.append(
            outcomes,
            provenance=self._made_by,
            writer_id=uuid.uuid4().hex,
            fingerprint=Fingerprint(end - 1, -1, self._digest.value()),
            created_at=now,
        )
        if is_mine:
            self._done.add(outcomes)
            header = self._writer.end.header
            self._done.days.update(header.days if header else ())
            return
        self._writer = ChainWriter(
            self._store, find_end(self._store, self._writer.end.chain, hint=start), DayIndex(self._store)
        )
        if self._writer.end.offset < end:
            raise _BehindError
        self._check_recipe()
        self._compare()


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pauses the cycle collector while frames are made: they have no cycles, and it would take 1/8 of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def recipe_hash(meaning: Meaning) -> str:
    """Returns the hash that a segment's header stores as the recipe of its rows."""
    return sha256(meaning.recipe.encode()).hexdigest()[:16]


_ANY_DAY = Limits(date.min, datetime.max.replace(tzinfo=UTC), 2**40)
_OTHER_NAME = "import it under another --name, which leaves the ledger's rows unchanged"


def _first_difference(store: ObjectStore, chain: ChainId, rows: Rows, meaning: Meaning, end: int) -> str:
    reading = rows.read(not_shown)
    digest = RollingHash()
    for segment in read_chain(store, chain, 0, end):
        header, mark = segment.header, segment.header.fingerprint
        some = _take(reading, digest, header.end)
        first = header.end - len(some)
        if mark and mark.offset + 1 == digest.rows and digest.value() != mark.sha256:
            return _compare(segment, some, first, meaning)
        if digest.rows < header.end:
            return f"they end at row {digest.rows}"
    return "the input matches again, so it changed in the meantime"


def _take(reading: Iterator[Row], digest: RollingHash, end: int) -> list[Row]:
    some: list[Row] = []
    while digest.rows < end and (row := next(reading, None)):
        digest.add(row.raw)
        some.append(row)
    return some


def _compare(segment: Segment, some: Sequence[Row], first: int, meaning: Meaning) -> str:
    stored = {outcome.offset: outcome for outcome in segment.outcomes() if isinstance(outcome, Frame | DeadLetter)}
    for offset, row in enumerate(some, first):
        before = stored.get(offset)
        now = outcome_of(row, offset, meaning, _ANY_DAY)
        if before is not None and not _is_same(before, now, row):
            return f"row {offset} ({row.place}) is the first that differs; the ledger has {_shown(before)}"
    header = segment.header
    return f"the first that differs is one of the rows {header.start} to {header.end - 1} ({some[0].place} and later)"


def _apart_from_its_place(frame: Frame) -> dict[str, Any]:
    """Returns a frame's document without the name of its file, because a file may be renamed."""
    document = frame.to_json()
    return document | {"attributes": document["attributes"] | {"imported_from": ""}}


def _is_same(before: Frame | DeadLetter, now: Frame | DeadLetter, row: Row) -> bool:
    if isinstance(before, DeadLetter):
        return before.raw_sha256 == row.sha256
    return isinstance(now, Frame) and _apart_from_its_place(before) == _apart_from_its_place(now)


def _shown(outcome: Frame | DeadLetter) -> str:
    if isinstance(outcome, DeadLetter):
        return f"a dead letter there ({outcome.message})"
    labels = ", ".join(f"{found.label} {found.confidence:g}" for found in outcome.detections[:3])
    return f"{labels or 'nothing'} at {outcome.timestamp:%Y-%m-%dT%H:%M:%SZ} there"
