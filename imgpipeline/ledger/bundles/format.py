"""The format of a bundle, version 1.

    bytes of segment 1 │ bytes of segment 2 │ … │ footer │ trailer

The footer is zstd-compressed JSON that says of each segment where it lies and what it holds. The trailer has 48 bytes:
the footer's length (8, big-endian), its SHA-256 (32), and `imgbndl1`. The same segments make the same bytes.
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
from imgpipeline.ledger.decompression import decompress
from imgpipeline.ledger.segment import SegmentHeader

FORMAT_VERSION = 1
"""Written into every footer; a reader takes the segments where it does not know it."""
TRAILER_BYTES = 48
_MAGIC = b"imgbndl1"
_MOST_FOOTER_BYTES = 2**26
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class DamagedBundleError(LedgerError):
    """The bytes under a bundle's key are not a whole bundle. Nothing is lost: the segments have everything."""


@dataclass(frozen=True, slots=True)
class BundledSegment:
    """Where a segment lies in its bundle, and what it holds."""

    start: int
    """First offset it covers."""
    end: int
    """First offset behind it."""
    position: int
    """Where its bytes begin in the bundle."""
    size_bytes: int
    """How many bytes it has, compressed as they are."""
    days: tuple[date, ...]
    """UTC days of its frames, dead letters and notices, sorted."""
    frames: int
    """How many outcomes are processed frames."""
    gated: int
    """How many outcomes are gated frames."""
    dead_letters: int
    """How many outcomes are dead letters."""
    gaps: Mapping[str, int]
    """Offsets in gaps, by reason."""
    sha256: str
    """SHA-256 of its bytes, 64 hexadecimal digits."""
    notices: int = 0
    """How many outcomes are notices."""

    def to_json(self) -> dict[str, Any]:
        """Returns it as the footer has it."""
        counts = {"frames": self.frames, "gated": self.gated, "dead_letters": self.dead_letters}
        return {
            "start": self.start,
            "end": self.end,
            "position": self.position,
            "size_bytes": self.size_bytes,
            "days": [day.isoformat() for day in self.days],
            "counts": {**counts, **({"notices": self.notices} if self.notices else {})},
            "gaps": dict(self.gaps),
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "BundledSegment":
        """Reads what `to_json` wrote; raises KeyError, TypeError or ValueError if it is something else."""
        counts = data["counts"]
        return cls(
            start=data["start"],
            end=data["end"],
            position=data["position"],
            size_bytes=data["size_bytes"],
            days=tuple(date.fromisoformat(day) for day in data["days"]),
            frames=counts["frames"],
            gated=counts["gated"],
            dead_letters=counts["dead_letters"],
            gaps=dict(data["gaps"]),
            sha256=data["sha256"],
            notices=counts.get("notices", 0),
        )


def encode_bundle(bundle: BundleId, segments: Iterable[tuple[SegmentHeader, bytes]]) -> bytes:
    """Returns the bytes of a bundle.

    Args:
        bundle: Which one.
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
        gaps=header.gaps,
        sha256=sha256(data).hexdigest(),
        notices=header.notices,
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
    """Returns how many bytes footer and trailer have together.

    Args:
        bundle: Which one.
        tail: At least the last 48 bytes of the object; fewer only where the object has no more.

    Raises:
        DamagedBundleError: It does not end as a bundle does.
    """
    trailer = tail[-TRAILER_BYTES:]
    length = int.from_bytes(trailer[:8], "big")
    if len(trailer) < TRAILER_BYTES or trailer[-len(_MAGIC) :] != _MAGIC or length > _MOST_FOOTER_BYTES:
        raise _damaged(bundle, f"{len(tail)} bytes that do not end as a bundle does")
    return length + TRAILER_BYTES


def decode_footer(bundle: BundleId, data: bytes) -> tuple[BundledSegment, ...]:
    """Reads a footer.

    Args:
        bundle: Which one is expected.
        data: Footer and trailer (`footer_size`), without anything before them.

    Returns:
        The segments of the bundle, in the order of offsets, without hole or overlap.

    Raises:
        DamagedBundleError: The bytes are not those of this bundle's footer.
        LedgerError: It has a format version that this release does not know.
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
            raise _damaged(bundle, f"it says it is {head}")
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
