"""The format of a bundle.

    bytes of segment 1 │ bytes of segment 2 │ … │ footer │ trailer

The footer is zstd-compressed JSON with the position and a summary of each segment. The trailer has 48 bytes: the
footer's length (8, big-endian), its SHA-256 (32), and `imgbndl1`. The same segments always give the same bytes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from itertools import pairwise
from typing import Any

import zstandard

from imgpipeline.contracts.bundle_keys import BundleId, bundle_key
from imgpipeline.errors import LedgerError
from imgpipeline.ledger.segment import SegmentHeader, decompress

FORMAT_VERSION = 1
"""Written into every footer. A reader that does not know the version reads the segments instead."""
TRAILER_BYTES = 48
_COUNTS = ("frames", "gated", "dead_letters", "notices")
_MAGIC = b"imgbndl1"
_MOST_FOOTER_BYTES = 2**26
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class DamagedBundleError(LedgerError):
    """An object with the key of a bundle is not an intact bundle. Nothing is lost, since the segments still exist."""


@dataclass(frozen=True, slots=True)
class BundledSegment:
    """Position and summary of a segment in a bundle."""

    start: int
    """First offset that the segment covers."""
    end: int
    """First offset after the segment."""
    position: int
    """Position of the segment's first byte in the bundle."""
    size_bytes: int
    """Size of the compressed segment."""
    days: tuple[date, ...]
    """UTC days of the frames, dead letters and notices, sorted."""
    frames: int
    """Number of processed frames."""
    gated: int
    """Number of gated frames."""
    dead_letters: int
    notices: int
    gaps: Mapping[str, int]
    """Offsets in gaps, by reason."""
    sha256: str
    """SHA-256 of the segment's bytes, 64 hexadecimal digits."""

    def to_json(self) -> dict[str, Any]:
        """Returns the entry of the footer."""
        return {
            "start": self.start,
            "end": self.end,
            "position": self.position,
            "size_bytes": self.size_bytes,
            "days": [day.isoformat() for day in self.days],
            "counts": {name: getattr(self, name) for name in _COUNTS},
            "gaps": dict(self.gaps),
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "BundledSegment":
        """Parses the result of `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        counts = data["counts"]
        return cls(
            start=data["start"],
            end=data["end"],
            position=data["position"],
            size_bytes=data["size_bytes"],
            days=tuple(date.fromisoformat(day) for day in data["days"]),
            **{name: counts[name] for name in _COUNTS},
            gaps=dict(data["gaps"]),
            sha256=data["sha256"],
        )


def encode_bundle(bundle: BundleId, segments: Iterable[tuple[SegmentHeader, bytes]]) -> bytes:
    """Returns the bytes of a bundle.

    Args:
        bundle: Identifies the bundle.
        segments: The header and the whole object of each segment, in the order of offsets.
    """
    parts: list[bytes] = []
    described: list[dict[str, Any]] = []
    position = 0
    for header, data in segments:
        described.append(_describe(header, data, position).to_json())
        parts.append(data)
        position += len(data)
    footer = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(
        _ENCODER.encode({**_identity(bundle), "segments": described}).encode()
    )
    return b"".join((*parts, footer, len(footer).to_bytes(8, "big"), sha256(footer).digest(), _MAGIC))


def _describe(header: SegmentHeader, data: bytes, position: int) -> BundledSegment:
    return BundledSegment(
        start=header.start,
        end=header.end,
        position=position,
        size_bytes=len(data),
        days=header.days,
        frames=header.frames,
        gated=header.gated,
        dead_letters=header.dead_letters,
        notices=header.notices,
        gaps=header.gaps,
        sha256=sha256(data).hexdigest(),
    )


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

    Args:
        bundle: Identifies the bundle.
        tail: At least the last 48 bytes of the object, or the whole object if it is shorter.

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

    Args:
        bundle: Identifies the expected bundle.
        data: Exactly footer and trailer (`footer_size`).

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
        segments = tuple(BundledSegment.from_json(segment) for segment in described)
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
