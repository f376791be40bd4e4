"""The day index: which segments touch a day.

An entry covers a range of offsets of a chain and is written before the segments in it. So every segment of a day has an
entry, but an entry may cover segments without outcomes of that day. Reading a day fails if an offset that an entry
covers is in no segment.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date

from imgpipeline.contracts.keys import (
    BUCKET_OFFSETS,
    DAY_INDEX,
    Bucket,
    ChainId,
    bucket_key,
    bucket_of,
    bucket_prefix,
    parse_bucket_key,
)
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.bundles.reading import FoundSegment, read_ranges
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
        since: The days, each with the end of each chain up to which it was read before. A segment is left out if all
            its days were read beyond its start; a chain without an end is read from its start.
        ends: The fixed ends (`fix_ends`); chains without one are not read.
        buckets: Entries of the index, if already listed; those of other days are ignored.

    Yields:
        Whole segments, including outcomes of other days (`days_since` returns the days to use).

    Raises:
        LedgerError: A segment cannot be read, or a chain has a hole.
    """
    found = read_ranges(store, _ranges(store, since, ends, buckets), ends, lambda part: bool(days_since(part, since)))
    return (part.segment for part in found if part.segment and days_since(part, since))


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
    listed = index_buckets(store, day) if buckets is None else buckets
    return any(
        days_since(part, days)
        for chain, ranges in _ranges(store, days, ends, listed).items()
        for part in read_ranges(store, {chain: ranges}, ends, lambda _: False)
    )


def _ranges(
    store: ObjectStore,
    since: Mapping[date, Mapping[ChainId, int]],
    ends: Mapping[ChainId, int],
    buckets: Iterable[Bucket] | None,
) -> dict[ChainId, list[range]]:
    """Returns the offsets to read of each chain with entries of the given days."""
    ranges: dict[ChainId, list[tuple[int, int]]] = defaultdict(list)
    for bucket in index_buckets(store) if buckets is None else buckets:
        if bucket.day in since:
            first = max(bucket.number * BUCKET_OFFSETS, since[bucket.day].get(bucket.chain, 0))
            behind = min((bucket.number + 1) * BUCKET_OFFSETS, ends.get(bucket.chain, 0))
            if first < behind:
                ranges[bucket.chain].append((first, behind))
    return {chain: list(_merged(ranges[chain])) for chain in sorted(ranges)}


def days_since(segment: SegmentHeader | FoundSegment, since: Mapping[date, Mapping[ChainId, int]]) -> list[date]:
    """Returns the days of a segment that were not read beyond its start before (`read_days`)."""
    return [day for day in segment.days if day in since and since[day].get(segment.chain, 0) <= segment.start]


def _merged(ranges: Iterable[tuple[int, int]]) -> Iterator[range]:
    """Joins half-open ranges of offsets that overlap or touch."""
    current: range | None = None
    for first, behind in sorted(ranges):
        if current and first <= current.stop:
            current = range(current.start, max(current.stop, behind))
            continue
        if current:
            yield current
        current = range(first, behind)
    if current:
        yield current
