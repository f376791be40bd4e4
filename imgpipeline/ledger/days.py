"""The day index: which segments touch a day.

Owns writing its entries before the segments they stand for, and reading a day through it. An entry may stand for a
bucket of segments with nothing of that day, but no segment of a day is without an entry.
"""

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
    parse_bucket_key,
)
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.reading import list_segments, read_segments
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
                self._store.create(bucket_key(bucket), b"")
                self._put.add(bucket)


def index_buckets(store: ObjectStore, day: date | None = None) -> list[Bucket]:
    """Returns the entries of the day index, of one day or of all, sorted."""
    prefix = f"{DAY_INDEX}/{day.isoformat()}" if day else DAY_INDEX
    found = (parse_bucket_key(info.key) for info in store.list_objects(prefix))
    return sorted(bucket for bucket in found if bucket is not None)


def read_day(
    store: ObjectStore,
    day: date,
    ends: Mapping[ChainId, int],
    *,
    since: Mapping[ChainId, int] | None = None,
    buckets: Iterable[Bucket] | None = None,
) -> Iterator[Segment]:
    """Yields the segments that touch a day, in the order of chain and offset.

    The ends have to be fixed before: then the answer is one state of the ledger, whatever is written meanwhile. This
    needs a store with strongly consistent listings, as S3 and folders have.

    Args:
        store: The object store.
        day: UTC day.
        ends: For each chain the end that was fixed (`fix_ends`); chains that are not named are not read.
        since: For each chain the offset below which segments are left out.
        buckets: The day's entries of the index, where they were listed already (after the ends were fixed).

    Yields:
        Whole segments; their frames of other days are in them too.

    Raises:
        LedgerError: A segment cannot be read, or a chain has a hole.
    """
    since = since or {}
    per_chain: dict[ChainId, list[Bucket]] = defaultdict(list)
    for bucket in index_buckets(store, day) if buckets is None else buckets:
        below = ends.get(bucket.chain, 0)
        reach = (bucket.number + 1) * BUCKET_OFFSETS
        if bucket.day == day and bucket.number * BUCKET_OFFSETS < below and since.get(bucket.chain, 0) < reach:
            per_chain[bucket.chain].append(bucket)
    for chain, found in sorted(per_chain.items()):
        for bucket in sorted(found):
            yield from _read_bucket(store, bucket, since.get(chain, 0), ends[chain])


def _read_bucket(store: ObjectStore, bucket: Bucket, since: int, below: int) -> Iterator[Segment]:
    first = bucket.number * BUCKET_OFFSETS
    behind = min(first + BUCKET_OFFSETS, below)
    starts = list_segments(store, bucket.chain, first, behind)
    position: int | None = None
    for segment in read_segments(store, bucket.chain, [start for start in starts if start >= since]):
        header = segment.header
        if position is not None and header.start != position:
            raise _hole(bucket.chain, position, header.start)
        position = header.end
        if bucket.day in header.days:
            yield segment
    if position is not None and position < behind:
        raise _hole(bucket.chain, position, behind)


def _hole(chain: ChainId, position: int, found: int) -> LedgerError:
    return LedgerError(
        f"The chain {chain} has a hole: after [.., {position}) the next segment starts at {found}.",
        next_step="run `imgpipeline audit --full`; a segment was removed from the store",
    )
