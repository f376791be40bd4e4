"""The format of a segment.

A segment is a zstd-compressed JSON Lines file. The first line is the header. Every other line is the outcome of one
offset, or a gap, in the order of offsets; together they cover `[start, end)` exactly once. The header's `checksum` is
the SHA-256 of the header line without the checksum, followed by all other lines.
"""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from typing import Any

import zstandard
from pydantic import TypeAdapter, ValidationError

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import (
    DeadLetter,
    Frame,
    FrameStatus,
    Gap,
    Outcome,
    offsets_of,
    outcome_from_json,
    outcome_to_json,
)
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.errors import ConfigurationError, LedgerError

FORMAT_VERSION = 5
"""The version in each header. Segments with any other version are refused."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
MAX_SEGMENT_BYTES = 2**31
"""Maximum decompressed size of a segment. A segment that claims more is damaged."""


class DamagedSegmentError(LedgerError):
    """The bytes are not a complete segment of a known version. `imgpipeline ledger repair` repairs it."""


class OtherVersionError(LedgerError):
    """A segment has a format version that this release does not read."""

    def __init__(self, key: str, version: object) -> None:
        step = "use the release of imgpipeline that wrote the segment; see docs/upgrading.md"
        super().__init__(f"{key} has format version {version!r}; this release reads {FORMAT_VERSION}.", next_step=step)
        self.version = version


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identifies the last record of a segment, to find out later whether the log is still the same."""

    offset: int
    """Kafka offset of the record."""
    timestamp_ms: int
    """Kafka timestamp in Unix milliseconds; -1 if the record has none."""
    sha256: str
    """Of key and value (`of`)."""

    @classmethod
    def of(cls, record: KafkaRecord) -> "Fingerprint":
        """Returns the fingerprint of a record."""
        parts = (b"-" if part is None else b"+%d:" % len(part) + part for part in (record.key, record.value))
        return cls(record.offset, record.timestamp_ms, sha256(b"".join(parts)).hexdigest())


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made the outcomes of a segment: model, settings and run."""

    model_name: str
    """Name of the model in the registry; empty for imports."""
    model_sha256: str
    """SHA-256 of the model file; empty for imports."""
    settings_hash: str
    run_id: str
    precision: str | None = None
    """Number format of the model, such as `bf16`; None for 32-bit floats and for imports."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first line of a segment."""

    chain: ChainId
    start: int
    end: int
    frames: int
    """Number of processed frames, without the gated ones."""
    gated: int
    dead_letters: int
    notices: int
    gaps: Mapping[str, int]
    """Offsets in gaps, by reason."""
    days: tuple[date, ...]
    """UTC days of the frames, dead letters and notices, sorted."""
    provenance: Provenance
    writer_id: str
    """Unique for one attempt to write one segment."""
    fingerprint: Fingerprint | None
    """The last record of the segment or, if it has only gaps, of the chain before it; None if there is none."""
    created_at: datetime

    def to_json(self) -> dict[str, Any]:
        """Returns the stored form of the header, without the checksum."""
        return {"format_version": FORMAT_VERSION, **_HEADER.dump_python(self, mode="json")}


_HEADER = TypeAdapter(SegmentHeader)


@dataclass(frozen=True, slots=True)
class Segment:
    """An intact segment."""

    header: SegmentHeader
    body: bytes
    """The other lines, JSON Lines in UTF-8, each with a final newline."""

    def outcomes(self) -> list[Outcome]:
        """Returns the outcomes in the order of their offsets."""
        return [outcome_from_json(json.loads(line)) for line in self.body.splitlines()]


def describe(
    chain: ChainId,
    outcomes: Sequence[Outcome],
    *,
    provenance: Provenance,
    writer_id: str,
    fingerprint: Fingerprint | None,
    created_at: datetime,
) -> SegmentHeader:
    """Returns the header of a segment with given outcomes, in the order of offsets.

    `writer_id` is unique for this attempt to write; `fingerprint` is that of the last record.

    Raises:
        LedgerError: There are no outcomes, or they have a hole or an overlap.
    """
    start, end = _covered(outcomes, str(chain))
    gaps: Counter[str] = Counter()
    for gap in outcomes:
        if isinstance(gap, Gap):
            gaps[gap.reason.value] += gap.end - gap.start
    frames = [o for o in outcomes if isinstance(o, Frame)]
    dead_letters = [o for o in outcomes if isinstance(o, DeadLetter)]
    processed = sum(1 for f in frames if f.status is FrameStatus.PROCESSED)
    notices = [o for o in outcomes if isinstance(o, Notice)]
    days = {f.day for f in frames} | {d.day for d in dead_letters if d.day is not None} | {n.day for n in notices}
    return SegmentHeader(
        chain=chain,
        start=start,
        end=end,
        frames=processed,
        gated=len(frames) - processed,
        dead_letters=len(dead_letters),
        notices=len(notices),
        gaps=dict(sorted(gaps.items())),
        days=tuple(sorted(days)),
        provenance=provenance,
        writer_id=writer_id,
        fingerprint=fingerprint,
        created_at=created_at,
    )


def _covered(outcomes: Sequence[Outcome], where: str) -> tuple[int, int]:
    if not outcomes:
        raise LedgerError(f"{where}: a segment without outcomes covers nothing.")
    start = position = offsets_of(outcomes[0])[0]
    for outcome in outcomes:
        first, behind = offsets_of(outcome)
        if first != position or behind <= first:
            raise LedgerError(f"{where}: got the outcome of [{first}, {behind}), expected that of offset {position}.")
        position = behind
    return start, position


def encode_segment(header: SegmentHeader, outcomes: Sequence[Outcome]) -> bytes:
    """Returns the bytes of a segment; `describe` makes the header.

    Raises:
        LedgerError: The segment would be larger than `decode_segment` can read.
    """
    return seal_segment(header, b"".join(encode_line(outcome_to_json(outcome)) for outcome in outcomes))


def seal_segment(header: SegmentHeader, body: bytes) -> bytes:
    """Returns the bytes of a segment, given its encoded lines after the header; errors as `encode_segment`."""
    data = header.to_json()
    head = encode_line({**data, "checksum": checksum_of(data, body)})
    if len(head) + len(body) > MAX_SEGMENT_BYTES:
        raise LedgerError(
            f"A segment of {header.chain} would have {len(head) + len(body)} bytes, the limit is {MAX_SEGMENT_BYTES}.",
            next_step="lower IMGPIPELINE_SEGMENT_MAX_RECORDS",
        )
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(head + body)


def decode_segment(data: bytes, key: str, *, is_verified: bool = False) -> Segment:
    """Decodes the bytes of a segment and verifies the checksum.

    `is_verified` skips the checksum, because it was verified for the same bytes before.

    Raises:
        DamagedSegmentError: The bytes are damaged.
        OtherVersionError: The segment has another format version.
    """
    try:
        head, newline, body = decompress(data, MAX_SEGMENT_BYTES).partition(b"\n")
        header = json.loads(head)
        version = header["format_version"]
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise _damaged(key, f"{len(data)} bytes that are not a segment ({error})") from None
    if version != FORMAT_VERSION:
        raise OtherVersionError(key, version)
    try:
        expected = header.pop("checksum", None)
        if not newline or not (is_verified or checksum_of(header, body) == expected):
            raise _damaged(key, "its checksum does not match")
        return Segment(_HEADER.validate_python(header), body)
    except ValidationError as error:
        names = ", ".join(".".join(map(str, field["loc"])) for field in error.errors())
        raise _damaged(key, f"fields of its header are missing or invalid: {names}") from None
    except (ValueError, ConfigurationError) as error:
        raise _damaged(key, f"its header is invalid: {error}") from None


def _damaged(key: str, why: str) -> DamagedSegmentError:
    return DamagedSegmentError(
        f"The segment {key} is damaged: {why}.",
        next_step="run `imgpipeline ledger repair --dry-run`; see docs/operations.md, 'A damaged segment'",
    )


def checksum_of(header: Mapping[str, Any], body: bytes) -> str:
    """Returns the SHA-256 of a segment's header line (without the checksum) and body, in hexadecimal."""
    digest = sha256(encode_line(header))
    digest.update(body)
    return digest.hexdigest()


def encode_line(data: Mapping[str, Any]) -> bytes:
    """Returns one line of a segment: compact JSON and a line feed."""
    return _ENCODER.encode(data).encode() + b"\n"


class _OfThread(threading.local):
    """One decompressor per thread: making one takes longer than decompressing a small segment."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_of_this_thread = _OfThread()


def decompress(data: bytes, most_bytes: int) -> bytes:
    """Returns the content of a Zstandard frame.

    The frame header must have the size of the content, which is checked before any memory is allocated.

    Raises:
        zstandard.ZstdError: The bytes are not such a frame, or are damaged.
        ValueError: The content is larger than `most_bytes`.
    """
    if zstandard.frame_content_size(data) > most_bytes:
        raise ValueError(f"it claims more than {most_bytes} bytes")
    return bytes(_of_this_thread.decompressor.decompress(data, max_output_size=most_bytes, allow_extra_data=False))
