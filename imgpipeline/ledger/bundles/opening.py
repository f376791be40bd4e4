"""Opening a bundle, and taking segments out of it.

A bundle that is gone or damaged costs its readers requests and nothing else. The first reader of a damaged one removes
it, so that the next bundling rebuilds it.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from imgpipeline.contracts.keys import segment_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.bundles.catalog import StoredBundle
from imgpipeline.ledger.bundles.format import (
    TRAILER_BYTES,
    BundledSegment,
    DamagedBundleError,
    decode_footer,
    footer_size,
)
from imgpipeline.ledger.reading import open_segment
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ForbiddenError, ObjectMissingError, ObjectStore
from imgpipeline.objectstore.reading import fetch_range, fetch_tail

PIECE_BYTES = 2**21
"""Neighbouring segments are read together up to this size; a few pieces are held in memory."""
_SMALLEST_TAIL_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class OpenBundle:
    """A bundle whose footer was read."""

    stored: StoredBundle
    """The object."""
    segments: tuple[BundledSegment, ...]
    """What it holds."""
    tail: bytes
    """The last bytes of the object, which came with the footer."""

    def cut(self, store: ObjectStore, first: BundledSegment, last: BundledSegment) -> bytes:
        """Returns the bytes from one segment to another."""
        begin, behind = first.position, last.position + last.size_bytes
        known_from = self.stored.size_bytes - len(self.tail)
        if begin >= known_from:
            return self.tail[begin - known_from : behind - known_from]
        return fetch_range(store, self.stored.key, begin, behind)


def try_open(store: ObjectStore, stored: StoredBundle) -> OpenBundle | None:
    """Opens a bundle; returns None if it is gone, damaged (then it is removed) or of an unknown version."""
    with contextlib.suppress(ObjectMissingError, LedgerError):
        try:
            return open_bundle(store, stored)
        except DamagedBundleError:
            discard(store, stored)
    return None


def open_bundle(store: ObjectStore, stored: StoredBundle) -> OpenBundle:
    """Reads the footer of a bundle: one request, two where it is long. A small bundle is read as a whole.

    Raises:
        DamagedBundleError: It is damaged.
        LedgerError: It has a format version that this release does not know.
        ObjectMissingError: It is gone.
    """
    size = stored.size_bytes
    if size < TRAILER_BYTES:  # S3 servers answer differently where they are asked for the end of an empty object
        raise DamagedBundleError(f"The bundle {stored.key} is damaged: it has {size} bytes.")
    asked = size if size <= PIECE_BYTES else max(size // 16, _SMALLEST_TAIL_BYTES)
    tail = fetch_tail(store, stored.key, asked).data
    length = footer_size(stored.bundle, tail)
    if length > len(tail) < size:
        tail = fetch_tail(store, stored.key, length).data
    return OpenBundle(stored, decode_footer(stored.bundle, tail[-length:]), tail)


def open_bundled(stored: StoredBundle, segment: BundledSegment, data: bytes, first: BundledSegment) -> Segment:
    """Reads one segment out of the bytes that begin with another one.

    Raises:
        DamagedBundleError: Its bytes are not those that were bundled.
    """
    own = bundled_bytes(segment, data, first)
    if sha256(own).hexdigest() != segment.sha256:
        raise DamagedBundleError(f"The bundle {stored.key} is damaged at offset {segment.start}.")
    # The bundler has verified the segment's own checksum before it took the hash of these bytes.
    return open_segment(own, segment_key(stored.bundle.chain, segment.start), is_verified=True)


def bundled_bytes(segment: BundledSegment, data: bytes, first: BundledSegment) -> bytes:
    """Cuts the bytes of one segment out of those that begin with another one."""
    begin = segment.position - first.position
    return data[begin : begin + segment.size_bytes]


def neighbours(segments: Sequence[BundledSegment]) -> Iterator[tuple[BundledSegment, ...]]:
    """Yields segments as they are read together."""
    held: list[BundledSegment] = []
    for segment in segments:
        if held and segment.position + segment.size_bytes - held[0].position > PIECE_BYTES:
            yield tuple(held)
            held = []
        held.append(segment)
    yield tuple(held)


def discard(store: ObjectStore, stored: StoredBundle) -> None:
    """Removes a bundle that is of no use; an account that may not delete leaves it, and reads the segments."""
    with contextlib.suppress(ForbiddenError):
        store.delete(stored.key)
