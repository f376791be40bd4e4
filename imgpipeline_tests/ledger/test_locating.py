"""The segments that hold given offsets are found without reading the others."""

import pytest

from imgpipeline.contracts.keys import segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.locating import segments_holding
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline_tests.ledger.samples import CHAIN, frames, gap, write_chain


@pytest.fixture
def filled() -> ObjectStore:
    """A chain of the segments [0, 3), [3, 5), [5, 200005) and [200005, 200007)."""
    store = open_memory_store()
    write_chain(store, frames(0, 3), frames(3, 5), [*frames(5, 6), gap(6, 200_005)], frames(200_005, 200_007))
    return store


@pytest.mark.parametrize(
    ("offsets", "found"),
    [
        ([], []),
        ([4], [(3, (4,))]),
        ([2, 0, 3], [(0, (0, 2)), (3, (3,))]),
        ([5], [(5, (5,))]),
        ([200_004], [(5, (200_004,))]),
        ([200_006, 1], [(0, (1,)), (200_005, (200_006,))]),
    ],
)
def test_each_offset_is_found_in_its_segment(
    filled: ObjectStore, offsets: list[int], found: list[tuple[int, tuple[int, ...]]]
):
    assert [(s.header.start, held) for s, held in segments_holding(filled, CHAIN, offsets)] == found


def test_segments_without_such_offsets_are_not_read(filled: ObjectStore):
    filled.put(segment_key(CHAIN, 3), b"damaged")
    assert [s.header.start for s, _ in segments_holding(filled, CHAIN, [0, 200_005])] == [0, 200_005]


@pytest.mark.parametrize(("removed", "offset"), [(0, 1), (3, 4), (200_005, 200_006)])
def test_an_offset_that_no_segment_holds_is_an_error(filled: ObjectStore, removed: int, offset: int):
    filled.delete(segment_key(CHAIN, removed))
    with pytest.raises(LedgerError, match=f"holds the offset {offset}"):
        list(segments_holding(filled, CHAIN, [offset]))
