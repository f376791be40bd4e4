"""Walks a chain to check that every offset has exactly one outcome.

Reads all segments, compares each header with its body, and continues after a fault, so that one walk finds all faults.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from imgpipeline.contracts.keys import (
    METADATA,
    OFFSET_LIMIT,
    Bucket,
    ChainId,
    bucket_key,
    bucket_of,
    chain_prefix,
    parse_segment_key,
    segment_key,
)
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.reading import BundleCheck, FoundSegment, read_units, split
from imgpipeline.ledger.bundles.stored import find_bundles
from imgpipeline.ledger.reading import find_end, list_segments
from imgpipeline.ledger.segment import Segment, SegmentHeader
from imgpipeline.ledger.session_books import ChainBooks, count_repeats
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_COUNTS = ("frames", "gated", "dead_letters", "notices")


@dataclass(slots=True)
class ChainAudit:
    """The result of a walk over a chain, from offset 0 up to a position; `audit_chain` continues a copy."""

    chain: ChainId
    position: int = 0
    """First offset that was not checked."""
    segments: int = 0
    frames: int = 0
    gated: int = 0
    dead_letters: int = 0
    gaps: dict[str, int] = field(default_factory=dict)
    """Offsets in gaps, by reason."""
    missing: int = 0
    """Offsets without an outcome."""
    overlapping: int = 0
    """Offsets with more than one outcome."""
    problems: tuple[str, ...] = ()
    """All faults, including holes and overlaps, each with its key."""
    notices: int = 0
    books: ChainBooks = field(default_factory=ChainBooks, compare=False)

    @property
    def ok(self) -> bool:
        """Whether every offset up to the position has exactly one outcome and every segment can be read."""
        return not (self.missing or self.overlapping or self.problems)

    def take(self, segment: Segment) -> None:
        """Checks the next segment."""
        header, start = segment.header, segment.header.start
        if start > self.position:
            self.skip_to(start)
        elif start < self.position:
            doubled = min(header.end, self.position) - start
            self.overlapping += doubled
            self.note(f"{self.chain}: offsets [{start}, {start + doubled}) have more than one outcome.")
        counts, gaps, problem = _count(segment, self.books)
        if problem:
            self.note(f"{segment_key(self.chain, start)} contradicts its header: {problem}.")
        self.segments += 1
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + counts[name])
        self.gaps = dict(sorted((gaps + Counter(self.gaps)).items()))
        self.position = max(self.position, header.end)

    def check_index(self, header: SegmentHeader, indexed: Container[Bucket]) -> None:
        """Checks that the day index has each day of a segment."""
        for day in header.days:
            bucket = bucket_of(day, self.chain, header.start)
            if bucket not in indexed:
                key = segment_key(self.chain, header.start)
                self.note(f"{key} touches {day}, but the day index lacks {bucket_key(bucket)}.")

    def skip_to(self, offset: int) -> None:
        """Notes that the offsets from the position on have no outcome."""
        self.missing += offset - self.position
        self.note(
            f"{chain_prefix(self.chain)}: offsets [{self.position}, {offset}) have no outcome. "
            "Next: run `imgpipeline ledger repair --dry-run`"
        )
        self.position = offset

    def note(self, problem: str) -> None:
        """Adds a fault."""
        self.problems += (problem,)

    def close_books(self, store: ObjectStore) -> None:
        """Counts repeated records for sessions that have ended with more records than they announced."""
        for found in self.books.sessions.values():
            if found.is_ended and found.missing < 0:
                with contextlib.suppress(LedgerError, ObjectMissingError):  # the walk has named that segment
                    found.counts["repeats"] = count_repeats(store, self.chain, found)


@dataclass(frozen=True, slots=True)
class FixedEnd:
    """The end of a walk over a chain."""

    chain: ChainId
    offset: int
    problems: tuple[str, ...] = ()
    """Why the end is uncertain: segments there that cannot be read."""
    is_closed: bool = False


def fix_end(store: ObjectStore, chain: ChainId, *, hint: int | None = None) -> FixedEnd:
    """Finds the end of a chain, even if its last segment is damaged.

    If the last segment is damaged, the walk ends after its start, since it covers at least that offset.
    """
    try:
        end = find_end(store, chain, hint=hint)
    except LedgerError as error:
        last = list_segments(store, chain, 0, OFFSET_LIMIT)[-1]
        return FixedEnd(chain, last + 1, (str(error),))
    return FixedEnd(chain, end.offset, is_closed=end.is_closed)


def audit_chain(
    store: ObjectStore,
    end: FixedEnd,
    *,
    since: ChainAudit | None = None,
    through_bundles: bool = False,
    indexed: Container[Bucket] | None = None,
    compare_bundles: bool = False,
    seen: Callable[[SegmentHeader], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> ChainAudit:
    """Walks a chain up to a fixed end.

    Args:
        end: The end of the walk.
        since: The result of an earlier walk to continue. Default: start at offset 0.
        through_bundles: Read bundles where possible. Default: list and read every segment.
        indexed: The day index, listed after the end was fixed. It must have each day of each segment. Default: do not
            check this.
        compare_bundles: Compare bundles with the segments, which must then not be read through bundles.
        seen: Called with the header of each readable segment.
        progress: Called after each segment with the number of offsets that it adds.

    Returns:
        The result from offset 0 on, including the earlier walk.

    Raises:
        TransientError: The store does not answer.
    """
    walk = deepcopy(since) if since else ChainAudit(end.chain)
    bundles = BundleCheck(store, end.chain) if compare_bundles else None
    for segment in _read(store, end, walk.position, through_bundles=through_bundles):
        if not isinstance(segment, Segment):
            walk.note(str(segment))
            continue
        before = walk.position
        walk.take(segment)
        wrong = bundles.take(segment.header) if bundles else None
        if wrong:
            walk.note(f"{wrong.why} `imgpipeline ledger repair` removes it; the segments stay.")
        seen(segment.header)
        if indexed is not None:
            walk.check_index(segment.header, indexed)
        progress(walk.position - before)
    if walk.position < end.offset:
        walk.skip_to(end.offset)
    walk.close_books(store)
    return walk


def stray_keys(store: ObjectStore) -> list[str]:
    """Returns the keys below `metadata/` that are not those of segments. Readers ignore these objects."""
    return sorted(info.key for info in store.list_objects(METADATA) if parse_segment_key(info.key) is None)


def _read(
    store: ObjectStore, end: FixedEnd, first: int, *, through_bundles: bool
) -> Iterator[Segment | LedgerError | ObjectMissingError]:
    """Yields each segment, or why it cannot be read."""
    bundles = find_bundles(store, end.chain, first, end.offset, end.offset) if through_bundles else {}
    for _, parts in read_units(store, split(end.chain, range(first, end.offset), end.offset, bundles)):
        for found in parts:
            if not isinstance(found, FoundSegment):
                yield found
            elif found.segment is not None:
                yield found.segment


def _count(segment: Segment, books: ChainBooks) -> tuple[Counter[str], Counter[str], str]:
    """Counts the outcomes of a segment; returns also how they contradict the header, or an empty string."""
    header = segment.header
    counts: Counter[str] = Counter()
    gaps: Counter[str] = Counter()
    days: set[str] = set()
    position, hole = header.start, ""
    try:
        for line in segment.body.splitlines():
            outcome = json.loads(line)
            first, behind = _take_line(outcome, counts, gaps, days)
            books.take(outcome)
            if first != position and not hole:
                hole = f"the outcome of {first} is where {position} was expected"
            position = behind
    except (ValueError, KeyError, TypeError) as error:
        return counts, gaps, f"after offset {position}, a line is not an outcome ({error})"
    if hole:
        return counts, gaps, hole
    if position != header.end:
        return counts, gaps, f"its outcomes end at {position}, expected {header.end}"
    said = {name: getattr(header, name) for name in _COUNTS}
    if any(counts[name] != said[name] for name in said) or gaps != Counter(header.gaps):
        return counts, gaps, f"it holds {dict(counts)} and gaps {dict(gaps)}, expected {said} and {dict(header.gaps)}"
    if sorted(days) != [day.isoformat() for day in header.days]:
        return counts, gaps, f"its outcomes are of {sorted(days)}"
    return counts, gaps, ""


def _take_line(line: Mapping[str, Any], counts: Counter[str], gaps: Counter[str], days: set[str]) -> tuple[int, int]:
    """Counts one outcome and returns the offsets that it covers."""
    if "frame" in line:
        frame = line["frame"]
        counts["frames" if frame["status"] == "processed" else "gated"] += 1
        days.add(frame["timestamp"][:10])
        offset: int = frame["source_kafka_offset"]
        return offset, offset + 1
    if "dead_letter" in line:
        letter = line["dead_letter"]
        counts["dead_letters"] += 1
        if letter["day"]:
            days.add(letter["day"])
        offset = letter["offset"]
        return offset, offset + 1
    if "notice" in line:
        notice = line["notice"]
        counts["notices"] += 1
        days.add(notice["from"][:10])
        offset = notice["offset"]
        return offset, offset + 1
    gap = line["gap"]
    gaps[gap["reason"]] += gap["to"] - gap["from"]
    return gap["from"], gap["to"]
