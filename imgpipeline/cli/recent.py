"""The latest segments of a chain first, without listing all of a long one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgpipeline.contracts.keys import FAN_OUT_OFFSETS

if TYPE_CHECKING:
    from imgpipeline.contracts.keys import ChainId
    from imgpipeline.ledger import Segment
    from imgpipeline.objectstore import ObjectStore


def latest_segments(store: "ObjectStore", chain: "ChainId", end: int) -> "Iterator[Segment]":
    """Yields a chain's segments from its end backwards, listing and reading only as far as is asked for.

    Args:
        store: The object store.
        chain: Which chain.
        end: Where it ends.

    Raises:
        LedgerError: A segment cannot be read.
    """
    from imgpipeline.ledger import list_segments, read_segments  # noqa: PLC0415 - loads obstore

    behind = end
    while behind > 0:
        first = max(0, (behind - 1) // FAN_OUT_OFFSETS * FAN_OUT_OFFSETS)
        yield from read_segments(store, chain, reversed(list_segments(store, chain, first, behind)))
        behind = first
