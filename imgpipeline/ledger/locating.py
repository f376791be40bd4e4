"""Finds the segments that hold given offsets of a chain."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator

from imgpipeline.contracts.keys import ChainId
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.reading import last_segment_before, list_segments, read_segments
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectStore


def segments_holding(
    store: ObjectStore, chain: ChainId, offsets: Collection[int]
) -> Iterator[tuple[Segment, tuple[int, ...]]]:
    """Yields the segments that hold some offsets of a chain, each with those that it holds, in order.

    Args:
        store: The object store.
        chain: Which chain.
        offsets: Offsets that have an outcome there.

    Raises:
        LedgerError: An offset is in no segment of the chain, or a segment cannot be read.
    """
    if not offsets:
        return
    first, last = min(offsets), max(offsets)
    starts = list_segments(store, chain, first, last + 1)
    if first not in starts[:1]:
        before = last_segment_before(store, chain, first)
        starts = [*([before.start] if before else ()), *starts]
    held: dict[int, list[int]] = defaultdict(list)
    for offset in sorted(offsets):
        place = bisect_right(starts, offset) - 1
        if place < 0:
            raise _nowhere(chain, offset)
        held[starts[place]].append(offset)
    for segment, wanted in zip(read_segments(store, chain, held), held.values(), strict=True):
        outside = [offset for offset in wanted if offset >= segment.header.end]
        if outside:
            raise _nowhere(chain, outside[0])
        yield segment, tuple(wanted)


def _nowhere(chain: ChainId, offset: int) -> LedgerError:
    return LedgerError(
        f"No segment of {chain} holds the offset {offset}.",
        next_step="run `imgpipeline audit --full`: a segment is gone",
    )
