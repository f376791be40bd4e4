"""Bundles in the store: their format, and which ones a chain has and can be read.

    bytes of segment 1 │ bytes of segment 2 │ … │ footer │ trailer

The footer is zstd-compressed JSON with position and days of each segment. The trailer has 48 bytes: the footer's length
(8, big-endian), its SHA-256 (32), and `imgbndl1`. The same segments always give the same bytes.

A bundle is readable if its revision is the one that the repair list currently gives its range. A missing or damaged
bundle only costs its readers requests. The first reader of a damaged one removes it, so that the next bundling rebuilds
it.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from hashlib import sha256
from itertools import pairwise
from typing import Any

import zstandard
from pydantic import TypeAdapter

from imgpipeline.contracts.keys import (
    BUNDLE_OFFSETS,
    BundleId,
    ChainId,
    bundle_key,
    bundle_prefix,
    bundle_range_key,
    parse_bundle_key,
    segment_key,
)
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.reading import open_segment
from imgpipeline.ledger.repair.repair_list import Repair, list_repairs
from imgpipeline.ledger.segment import Segment, SegmentHeader, decompress
from imgpipeline.objectstore import ForbiddenError, ObjectMissingError, ObjectStore
from imgpipeline.objectstore.reading import fetch_range, fetch_tail

FORMAT_VERSION = 1
"""Written into every footer. A reader that does not know the version reads the segments instead."""
TRAILER_BYTES = 48
PIECE_BYTES = 2**21
"""Adjacent segments are read together up to this size; a few pieces are in memory."""
_SMALLEST_TAIL_BYTES = 2**16
_NO_REPAIR = "0" * 16
_MAGIC = b"imgbndl1"
_MOST_FOOTER_BYTES = 2**26
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class DamagedBundleError(LedgerError):
    """An object with the key of a bundle is not an intact bundle. Nothing is lost, since the segments still exist."""


@dataclass(frozen=True, slots=True)
class BundledSegment:
    """Position and days of a segment in a bundle."""

    start: int
    end: int
    position: int
    size_bytes: int
    days: tuple[date, ...]
    sha256: str


_SEGMENTS = TypeAdapter(tuple[BundledSegment, ...])


def encode_bundle(bundle: BundleId, segments: Iterable[tuple[SegmentHeader, bytes]]) -> bytes:
    """Returns the bytes of a bundle.

    Takes the header and the whole object of each segment, in the order of offsets.
    """
    parts: list[bytes] = []
    described: list[BundledSegment] = []
    position = 0
    for header, data in segments:
        digest = sha256(data).hexdigest()
        described.append(BundledSegment(header.start, header.end, position, len(data), header.days, digest))
        parts.append(data)
        position += len(data)
    footer = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(
        _ENCODER.encode(
            {**_identity(bundle), "segments": _SEGMENTS.dump_python(tuple(described), mode="json")}
        ).encode()
    )
    return b"".join((*parts, footer, len(footer).to_bytes(8, "big"), sha256(footer).digest(), _MAGIC))


def _identity(bundle: BundleId) -> dict[str, Any]:
    chain = bundle.chain
    return {
        "format_version": FORMAT_VERSION,
        "topic": chain.topic,
        "topic_id": chain.topic_id,
        "partition": chain.partition,
        "number": bundle.number,
        "revision": bundle.revision,
    }


def footer_size(bundle: BundleId, tail: bytes) -> int:
    """Returns the total size of footer and trailer.

    `tail` has at least the last 48 bytes of the object, or the whole object if it is shorter.

    Raises:
        DamagedBundleError: The object does not end like a bundle.
    """
    trailer = tail[-TRAILER_BYTES:]
    length = int.from_bytes(trailer[:8], "big")
    if len(trailer) < TRAILER_BYTES or trailer[-len(_MAGIC) :] != _MAGIC or length > _MOST_FOOTER_BYTES:
        raise _damaged(bundle, f"its last {len(tail)} bytes are not the end of a bundle")
    return length + TRAILER_BYTES


def decode_footer(bundle: BundleId, data: bytes) -> tuple[BundledSegment, ...]:
    """Decodes a footer.

    `data` is exactly footer and trailer (`footer_size`).

    Returns:
        The segments of the bundle, in the order of offsets, without hole or overlap.

    Raises:
        DamagedBundleError: The bytes are not the footer of this bundle.
        LedgerError: This release does not know the format version.
    """
    footer, trailer = data[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    if sha256(footer).digest() != trailer[8:40]:
        raise _damaged(bundle, "the checksum of its footer does not match")
    try:
        head = json.loads(decompress(footer, _MOST_FOOTER_BYTES))
        if head["format_version"] != FORMAT_VERSION:
            raise LedgerError(f"{bundle_key(bundle)} has format version {head['format_version']!r}.")
        described = head.pop("segments")
        if head != _identity(bundle):
            raise _damaged(bundle, f"its footer identifies it as {head}")
        segments = _SEGMENTS.validate_python(described)
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(bundle, f"its footer cannot be read ({error})") from None
    _check_order(bundle, segments)
    return segments


def _check_order(bundle: BundleId, segments: Sequence[BundledSegment]) -> None:
    for before, segment in pairwise(segments):
        if segment.start != before.end or segment.position != before.position + before.size_bytes:
            raise _damaged(bundle, f"its footer has a hole at offset {before.end}")
    if not segments or not (bundle.first <= segments[0].start and segments[-1].start < bundle.behind):
        raise _damaged(bundle, "its segments start outside its range")


def _damaged(bundle: BundleId, why: str) -> DamagedBundleError:
    return DamagedBundleError(f"The bundle {bundle_key(bundle)} is damaged: {why}.")


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A listed bundle."""

    bundle: BundleId
    size_bytes: int

    @property
    def key(self) -> str:
        """The bundle's key."""
        return bundle_key(self.bundle)


def list_bundles(store: ObjectStore, chain: ChainId, first: int, behind: int) -> list[StoredBundle]:
    """Returns the sorted bundles of the ranges `first` to `behind - 1`, readable or not."""
    found: list[StoredBundle] = []
    after = bundle_range_key(chain, first) if first else None
    for info in store.list_objects(bundle_prefix(chain), after=after):
        bundle = parse_bundle_key(chain, info.key)
        if bundle is None:
            continue
        if first <= bundle.number < behind:
            found.append(StoredBundle(bundle, info.size_bytes))
        elif bundle.number >= behind and store.lists_in_order:
            break
    return sorted(found, key=lambda stored: stored.bundle)


def current_id(chain: ChainId, number: int, repairs: Iterable[Repair]) -> BundleId:
    """Returns the id of a range's bundle; its revision is the hash of the repairs that were opened in the range."""
    bundle = BundleId(chain, number, _NO_REPAIR)
    opened = [
        repair.number
        for repair in repairs
        if repair.closes is None
        and repair.chain == chain
        and repair.first < bundle.behind
        and bundle.first < repair.behind
    ]
    return replace(bundle, revision=sha256(repr(opened).encode()).hexdigest()[:16]) if opened else bundle


def readable(bundles: Iterable[StoredBundle], repairs: Collection[Repair]) -> dict[int, StoredBundle]:
    """Returns the readable bundles of a chain by the number of their range.

    The repairs are those of the repair list, which was read after the bundles were listed.
    """
    return {b.number: found for found in bundles if (b := found.bundle) == current_id(b.chain, b.number, repairs)}


def find_bundles(store: ObjectStore, chain: ChainId, first: int, behind: int, end: int) -> dict[int, StoredBundle]:
    """Returns the readable bundles for a range of offsets, by the number of their bundle range.

    Costs one listing if the chain has moved past a bundle range there, and another one if there are bundles. Only
    bundle ranges count that are completely before `end`, the fixed end of the chain.
    """
    numbers = range(first // BUNDLE_OFFSETS, min(-(-behind // BUNDLE_OFFSETS), end // BUNDLE_OFFSETS))
    bundles = list_bundles(store, chain, numbers.start, numbers.stop) if numbers else []
    return readable(bundles, list_repairs(store)) if bundles else {}


@dataclass(frozen=True, slots=True)
class OpenBundle:
    """A bundle whose footer was read."""

    stored: StoredBundle
    segments: tuple[BundledSegment, ...]
    tail: bytes
    """The last bytes of the object, read together with the footer."""

    def cut(self, store: ObjectStore, first: BundledSegment, last: BundledSegment) -> bytes:
        """Returns the bytes from the start of one segment to the end of another."""
        begin, behind = first.position, last.position + last.size_bytes
        known_from = self.stored.size_bytes - len(self.tail)
        if begin >= known_from:
            return self.tail[begin - known_from : behind - known_from]
        return fetch_range(store, self.stored.key, begin, behind)


def try_open(store: ObjectStore, stored: StoredBundle) -> OpenBundle | None:
    """Opens a bundle; returns None if it is missing, damaged (and now removed) or of an unknown version."""
    with contextlib.suppress(ObjectMissingError, LedgerError):
        try:
            return open_bundle(store, stored)
        except DamagedBundleError:
            discard(store, stored)
    return None


def open_bundle(store: ObjectStore, stored: StoredBundle) -> OpenBundle:
    """Reads the footer of a bundle with one request, or two if it is long. A small bundle is read as a whole.

    Raises:
        DamagedBundleError: The bundle is damaged.
        LedgerError: This release does not know the format version.
        ObjectMissingError: The bundle is missing.
    """
    size = stored.size_bytes
    if size < TRAILER_BYTES:  # S3 servers differ in how they answer a request for the end of an empty object
        raise DamagedBundleError(f"The bundle {stored.key} is damaged: it has {size} bytes.")
    asked = size if size <= PIECE_BYTES else max(size // 16, _SMALLEST_TAIL_BYTES)
    tail = fetch_tail(store, stored.key, asked).data
    length = footer_size(stored.bundle, tail)
    if length > len(tail) < size:
        tail = fetch_tail(store, stored.key, length).data
    return OpenBundle(stored, decode_footer(stored.bundle, tail[-length:]), tail)


def open_bundled(stored: StoredBundle, segment: BundledSegment, data: bytes, first: BundledSegment) -> Segment:
    """Decodes one segment of a bundle.

    `data` are bytes of the bundle that contain the segment and begin with the segment `first`.

    Raises:
        DamagedBundleError: The bytes have changed since the segment was bundled.
    """
    begin = segment.position - first.position
    own = data[begin : begin + segment.size_bytes]
    if sha256(own).hexdigest() != segment.sha256:
        raise DamagedBundleError(f"The bundle {stored.key} is damaged at offset {segment.start}.")
    # The bundler verified the segment's checksum before it hashed these bytes.
    return open_segment(own, segment_key(stored.bundle.chain, segment.start), is_verified=True)


def neighbours(segments: Sequence[BundledSegment]) -> Iterator[tuple[BundledSegment, ...]]:
    """Yields groups of adjacent segments that are read with one request."""
    held: list[BundledSegment] = []
    for segment in segments:
        if held and segment.position + segment.size_bytes - held[0].position > PIECE_BYTES:
            yield tuple(held)
            held = []
        held.append(segment)
    yield tuple(held)


def discard(store: ObjectStore, stored: StoredBundle) -> None:
    """Removes an unusable bundle; without permission to delete it stays, and readers use the segments."""
    with contextlib.suppress(ForbiddenError):
        store.delete(stored.key)
