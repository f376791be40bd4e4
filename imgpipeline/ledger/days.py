"""The day index: which segments touch a day.

An entry is written before the segments that it stands for. So an entry may stand for segments without anything of that
day, but no segment of a day lacks an entry. Reading a day fails if an offset that an entry covers lies in no segment.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

from imgpipeline.contracts.keys import (
    BUCKET_OFFSETS,
    DAY_INDEX,
    Bucket,
    ChainId,
    bucket_key,
    bucket_of,
    parse_bucket_key,
)
from imgpipeline.errors import LedgerError
from imgpipeline.faultpoints import reach
from imgpipeline.ledger.bundles.catalog import find_bundles
from imgpipeline.ledger.bundles.format import BundledSegment
from imgpipeline.ledger.bundles.reading import Covered, join_stretches, read_stretches
from imgpipeline.ledger.segment import Segment, SegmentHeader
from imgpipeline.objectstore import ObjectStore


class DayIndex:
    """Puts the entries of the day index, each once a run."""

    def __init__(self, store: ObjectStore) -> None:
        """Begins with nothing put."""
        self._store = store
        self._put: set[Bucket] = set()

    def cover(self, header: SegmentHeader) -> None:
        """Makes sure that every day a segment touches has its entry, before the segment is put."""
        for day in header.days:
            bucket = bucket_of(day, header.chain, header.start)
            if bucket not in self._put:
                # Not `create`: its False could mean that another's put was under way, and then failed.
                key = bucket_key(bucket)
                reach("index put", key)
                self._store.put(key, b"")
                reach("index put done", key)
                self._put.add(bucket)


def index_buckets(store: ObjectStore, day: date | None = None) -> list[Bucket]:
    """Returns the entries of the day index, of one day or of all, sorted."""
    prefix = f"{DAY_INDEX}/{day.isoformat()}" if day else DAY_INDEX
    found = (parse_bucket_key(info.key) for info in store.list_objects(prefix))
    return sorted(bucket for bucket in found if bucket is not None)


def known_days(store: ObjectStore) -> list[date]:
    """Returns the days that the index names, sorted: one listing, however many there are."""
    days: list[date] = []
    for name in store.list_folders(DAY_INDEX):
        with contextlib.suppress(ValueError):  # no folder of ours
            days.append(date.fromisoformat(name))
    return sorted(days)


def read_day(
    store: ObjectStore,
    day: date,
    ends: Mapping[ChainId, int],
    *,
    since: Mapping[ChainId, int] | None = None,
    buckets: Iterable[Bucket] | None = None,
) -> Iterator[Segment]:
    """Yields the segments that touch a day, in the order of chain and offset: `read_days` for a single day.

    Args:
        store: The object store.
        day: UTC day.
        ends: As for `read_days`.
        since: For each chain the end up to which it was read before; its segments are left out.
        buckets: As for `read_days`.

    Yields:
        As `read_days`.

    Raises:
        LedgerError: As `read_days`.
    """
    yield from read_days(
        store, {day: since or {}}, ends, buckets=index_buckets(store, day) if buckets is None else buckets
    )


def read_days(
    store: ObjectStore,
    since: Mapping[date, Mapping[ChainId, int]],
    ends: Mapping[ChainId, int],
    *,
    buckets: Iterable[Bucket] | None = None,
) -> Iterator[Segment]:
    """Yields the segments that touch any of several days, each once, in the order of chain and offset.

    The ends must be fixed before the index is listed. The result is then one state of the ledger, whatever is written
    meanwhile. This needs a store with strongly consistent listings, as S3 and folders have.

    Args:
        store: The object store.
        since: The days, each with the end up to which a chain was read before. A segment is left out if all the days
            that it touches were read beyond its start; a chain that is not named is read from its start.
        ends: For each chain the end that was fixed (`fix_ends`); chains that are not named are not read.
        buckets: Entries of the index, if they were listed already; those of other days are ignored.

    Yields:
        Whole segments, including outcomes of other days (`days_since` names those to take).

    Raises:
        LedgerError: A segment cannot be read, or a chain has a hole.
    """
    ranges: dict[ChainId, list[tuple[int, int]]] = defaultdict(list)
    for bucket in index_buckets(store) if buckets is None else buckets:
        if bucket.day in since:
            first = max(bucket.number * BUCKET_OFFSETS, since[bucket.day].get(bucket.chain, 0))
            behind = min((bucket.number + 1) * BUCKET_OFFSETS, ends.get(bucket.chain, 0))
            if first < behind:
                ranges[bucket.chain].append((first, behind))
    for chain, found in sorted(ranges.items()):
        yield from _read_ranges(store, chain, list(_merged(found)), ends[chain], since)


def days_since(header: SegmentHeader, since: Mapping[date, Mapping[ChainId, int]]) -> list[date]:
    """Returns the days that a segment touches and that were not read up to its start before (`read_days`)."""
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


def _read_ranges(
    store: ObjectStore,
    chain: ChainId,
    ranges: Sequence[tuple[int, int]],
    end: int,
    since: Mapping[date, Mapping[ChainId, int]],
) -> Iterator[Segment]:
    bundles = find_bundles(store, chain, ranges[0][0], ranges[-1][1], end)
    for first, behind in ranges:
        stretches = join_stretches(bundles, first, behind)
        parts = read_stretches(
            store, chain, stretches, end=end, wanted=lambda segment: bool(_unread_days(chain, segment, since))
        )
        for part in _checked(chain, first, behind, parts):
            if isinstance(part, Segment) and days_since(part.header, since):
                yield part


def _checked(
    chain: ChainId, first: int, behind: int, parts: Iterator[Segment | Covered]
) -> Iterator[Segment | Covered]:
    """Yields what was read of a range, and fails where it does not cover the range."""
    position = 0
    for number, part in enumerate(parts):
        start, next_start = _offsets(part)
        if start != position and not (number == 0 and start <= first):
            raise _hole(chain, position, start)
        position = next_start
        yield part
    if position < behind:
        raise _hole(chain, position, behind)


def _offsets(part: Segment | Covered) -> tuple[int, int]:
    return (part.header.start, part.header.end) if isinstance(part, Segment) else (part.start, part.end)


def _hole(chain: ChainId, position: int, found: int) -> LedgerError:
    return LedgerError(
        f"The chain {chain} has a hole: no segment starts at {position}, where one ended; the next is at {found}.",
        next_step="run `imgpipeline ledger repair --dry-run`; a segment was removed from the store",
    )
