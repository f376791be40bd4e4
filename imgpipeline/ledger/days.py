"""The day index: which segments touch a day.

An entry covers a range of offsets of a chain and is written before the segments in it. So every segment of a day has an
entry, but an entry may cover segments without outcomes of that day. Reading a day fails if an offset that an entry
covers is in no segment.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from imgpipeline.contracts.keys import (
    BUCKET_OFFSETS,
    DAY_INDEX,
    Bucket,
    ChainId,
    bucket_key,
    bucket_of,
    bucket_prefix,
    parse_bucket_key,
    segment_key,
)
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.bundles.reading import Covered, Wanted, find_covering, join_stretches, read_stretches
from imgpipeline.ledger.bundles.stored import BundledSegment, StoredBundle, find_bundles
from imgpipeline.ledger.reading import hole_in_chain, list_segments, read_segment
from imgpipeline.ledger.segment import Segment, SegmentHeader
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead


class DayIndex:
    """Puts entries of the day index, each at most once per run."""

    def __init__(self, store: ObjectStore) -> None:
        """Starts without any entries put."""
        self._store = store
        self._put: set[Bucket] = set()

    def cover(self, header: SegmentHeader) -> None:
        """Puts the entries of all days that a segment touches; call it before the segment is put."""
        for day in header.days:
            bucket = bucket_of(day, header.chain, header.start)
            if bucket not in self._put:
                # Not `create`: its False could come from another put that then failed.
                key = bucket_key(bucket)
                reach("index put", key)
                self._store.put(key, b"")
                reach("index put done", key)
                self._put.add(bucket)


def index_buckets(store: ObjectStore, day: date | None = None) -> list[Bucket]:
    """Returns the sorted entries of the day index, of one day or of all days."""
    prefix = f"{DAY_INDEX}/{day.isoformat()}" if day else DAY_INDEX
    found = (parse_bucket_key(info.key) for info in store.list_objects(prefix))
    return sorted(bucket for bucket in found if bucket is not None)


def known_days(store: ObjectStore) -> list[date]:
    """Returns the sorted days of the index, with a single listing."""
    days: list[date] = []
    for name in store.list_folders(DAY_INDEX):
        with contextlib.suppress(ValueError):  # not a folder of the index
            days.append(date.fromisoformat(name))
    return sorted(days)


def days_of_chain(store: ObjectStore, chain: ChainId, first: int = 0, behind: int | None = None) -> list[date]:
    """Returns the sorted days that segments of a chain may touch, with one short listing per day."""

    def has_entry(day: date) -> bool:
        before = Bucket(day, chain, first // BUCKET_OFFSETS - 1)
        after = bucket_key(before) if before.number >= 0 else None
        for info in store.list_objects(bucket_prefix(day, chain), after=after):
            bucket = parse_bucket_key(info.key)
            if bucket and bucket.number > before.number and (behind is None or bucket.number * BUCKET_OFFSETS < behind):
                return True
            if bucket and store.lists_in_order:
                return False
        return False

    days = known_days(store)
    found = map_ahead(has_entry, days)
    return [day for day, is_there in zip(days, found, strict=True) if is_there]


def read_day(
    store: ObjectStore,
    day: date,
    ends: Mapping[ChainId, int],
    *,
    since: Mapping[ChainId, int] | None = None,
    buckets: Iterable[Bucket] | None = None,
) -> Iterator[Segment]:
    """Yields the segments that touch a day that start at or after the ends in `since`; otherwise as `read_days`."""
    listed = index_buckets(store, day) if buckets is None else buckets
    yield from read_days(store, {day: since or {}}, ends, buckets=listed)


def read_days(
    store: ObjectStore,
    since: Mapping[date, Mapping[ChainId, int]],
    ends: Mapping[ChainId, int],
    *,
    buckets: Iterable[Bucket] | None = None,
) -> Iterator[Segment]:
    """Yields the segments that touch any of several days, each once, in the order of chain and offset.

    Fix the ends before the index is listed. Then the result is one state of the ledger, even if others write meanwhile.
    This needs strongly consistent listings, which S3 and folders have.

    Args:
        store: The object store.
        since: The days, each with the end of each chain up to which it was read before. A segment is left out if all
            its days were read beyond its start; a chain without an end is read from its start.
        ends: The fixed ends (`fix_ends`); chains without one are not read.
        buckets: Entries of the index, if already listed; those of other days are ignored.

    Yields:
        Whole segments, including outcomes of other days (`days_since` returns the days to use).

    Raises:
        LedgerError: A segment cannot be read, or a chain has a hole.
    """
    for has_bundles, group in groupby(_plans(store, since, ends, buckets), key=lambda plan: bool(plan.bundles)):
        if has_bundles:
            for plan in group:
                yield from _read_bundled(store, plan, since)
        else:
            yield from _read_plain(store, group, since)


def has_segment(
    store: ObjectStore,
    day: date,
    ends: Mapping[ChainId, int],
    *,
    since: Mapping[ChainId, int],
    buckets: Iterable[Bucket] | None = None,
) -> bool:
    """Returns whether `read_day` would yield a segment, from the footers of bundles where possible.

    Raises:
        LedgerError: As `read_days`.
    """
    days = {day: since}
    for plan in _plans(store, days, ends, index_buckets(store, day) if buckets is None else buckets, ahead=1):
        found = _unread_parts(store, plan, days) if plan.bundles else _read_plain(store, [plan], days)
        if next(iter(found), None) is not None:
            return True
    return False


def _unread_parts(
    store: ObjectStore, plan: "_Plan", since: Mapping[date, Mapping[ChainId, int]]
) -> Iterator[Segment | BundledSegment]:
    """Yields the segments of a chain that touch given days, without reading those in bundles."""
    named: list[BundledSegment] = []

    def note(segment: BundledSegment) -> bool:
        if _unread_days(plan.chain, segment, since):
            named.append(segment)
        return False

    for part in _bundled_parts(store, plan, note):
        yield from named
        named.clear()
        if isinstance(part, Segment) and days_since(part.header, since):
            yield part


def _plans(
    store: ObjectStore,
    since: Mapping[date, Mapping[ChainId, int]],
    ends: Mapping[ChainId, int],
    buckets: Iterable[Bucket] | None,
    *,
    ahead: int = 32,
) -> Iterator["_Plan"]:
    """Yields how to read each chain with entries of the given days, planning a few ahead."""
    ranges: dict[ChainId, list[tuple[int, int]]] = defaultdict(list)
    for bucket in index_buckets(store) if buckets is None else buckets:
        if bucket.day in since:
            first = max(bucket.number * BUCKET_OFFSETS, since[bucket.day].get(bucket.chain, 0))
            behind = min((bucket.number + 1) * BUCKET_OFFSETS, ends.get(bucket.chain, 0))
            if first < behind:
                ranges[bucket.chain].append((first, behind))
    return map_ahead(
        lambda chain: _plan(store, chain, list(_merged(ranges[chain])), ends[chain]),
        sorted(ranges),
        ahead=ahead,
    )


def days_since(header: SegmentHeader, since: Mapping[date, Mapping[ChainId, int]]) -> list[date]:
    """Returns the days of a segment that were not read beyond its start before (`read_days`)."""
    return _unread_days(header.chain, header, since)


def _unread_days(
    chain: ChainId, segment: SegmentHeader | BundledSegment, since: Mapping[date, Mapping[ChainId, int]]
) -> list[date]:
    return [day for day in segment.days if day in since and since[day].get(chain, 0) <= segment.start]


def _merged(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Joins half-open ranges of offsets that overlap or touch."""
    current: tuple[int, int] | None = None
    for first, behind in sorted(set(ranges)):
        if current and first <= current[1]:
            current = (current[0], max(current[1], behind))
            continue
        if current:
            yield current
        current = (first, behind)
    if current:
        yield current


@dataclass(frozen=True, slots=True)
class _Range:
    """Offsets of a chain to read. `covered` and `starts` are used only if the chain has no bundles."""

    first: int
    behind: int
    covered: Covered | None = None
    starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to read a chain."""

    chain: ChainId
    end: int
    ranges: tuple[_Range, ...]
    bundles: Mapping[int, StoredBundle]


def _plan(store: ObjectStore, chain: ChainId, ranges: Sequence[tuple[int, int]], end: int) -> _Plan:
    bundles = find_bundles(store, chain, ranges[0][0], ranges[-1][1], end)
    if bundles:
        return _Plan(chain, end, tuple(_Range(first, behind) for first, behind in ranges), bundles)
    listed: list[_Range] = []
    for first, behind in ranges:
        starts = tuple(list_segments(store, chain, first, behind))
        listed.append(_Range(first, behind, find_covering(store, chain, first, starts), starts))
    return _Plan(chain, end, tuple(listed), bundles)


def _read_plain(
    store: ObjectStore, plans: Iterable[_Plan], since: Mapping[date, Mapping[ChainId, int]]
) -> Iterator[Segment]:
    """Reads chains without bundles: all their segments one after the other, a few ahead."""
    # A range without segments needs a step too, so that the hole is noticed.
    steps = (
        (plan.chain, part, start) for plan in plans for part in plan.ranges for start in (part.covered, *part.starts)
    )

    def read(step: tuple[ChainId, _Range, Covered | int | None]) -> tuple[ChainId, _Range, Segment | Covered | None]:
        chain, part, start = step
        return chain, part, read_segment(store, segment_key(chain, start)) if isinstance(start, int) else start

    found = map_ahead(read, steps)
    for (chain, first, behind), group in groupby(found, key=lambda read: (read[0], read[1].first, read[1].behind)):
        parts = (part for _, _, part in group if part is not None)
        yield from _wanted(_checked(chain, first, behind, parts), since)


def _read_bundled(store: ObjectStore, plan: _Plan, since: Mapping[date, Mapping[ChainId, int]]) -> Iterator[Segment]:
    parts = _bundled_parts(store, plan, lambda segment: bool(_unread_days(plan.chain, segment, since)))
    yield from _wanted(parts, since)


def _bundled_parts(store: ObjectStore, plan: _Plan, wanted: Wanted) -> Iterator[Segment | Covered]:
    for part in plan.ranges:
        stretches = join_stretches(plan.bundles, part.first, part.behind)
        found = read_stretches(store, plan.chain, stretches, end=plan.end, wanted=wanted)
        yield from _checked(plan.chain, part.first, part.behind, found)


def _wanted(parts: Iterator[Segment | Covered], since: Mapping[date, Mapping[ChainId, int]]) -> Iterator[Segment]:
    return (part for part in parts if isinstance(part, Segment) and days_since(part.header, since))


def _checked(
    chain: ChainId, first: int, behind: int, parts: Iterator[Segment | Covered]
) -> Iterator[Segment | Covered]:
    """Yields the parts of a range and fails if they do not cover it."""
    position = 0
    for number, part in enumerate(parts):
        start, next_start = _offsets(part)
        if start != position and not (number == 0 and start <= first):
            raise hole_in_chain(chain, position, start)
        position = next_start
        yield part
    if position < behind:
        raise hole_in_chain(chain, position, behind)


def _offsets(part: Segment | Covered) -> tuple[int, int]:
    return (part.header.start, part.header.end) if isinstance(part, Segment) else (part.start, part.end)
