"""A segment is read exactly as it was written, or not at all, and the format does not change by accident."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.detection import Detection, DetectorUse
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import FrameStatus, Gap, GapReason, Outcome, offsets_of, outcome_to_json
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.errors import LedgerError
from imgpipeline.ledger import segment
from imgpipeline.ledger.segment import Fingerprint, Segment, SegmentHeader, decode_segment, describe, encode_segment
from imgpipeline_tests.contracts.strategies import attributes, chains, outcomes, texts, times
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, PROVENANCE, dead_letter, frame, gap, notice

GOLDEN = Path(__file__).parent / "golden" / "version_5.jsonl.zst"
KEY = "metadata/key"
MARK = Fingerprint(12, 1767960000000, "cd" * 32)


def small() -> list[Outcome]:
    return [gap(0, 10), frame(10), dead_letter(11), frame(12, date(2026, 1, 10))]


def described(items: Sequence[Outcome], chain: ChainId = CHAIN) -> SegmentHeader:
    return describe(chain, items, provenance=PROVENANCE, writer_id="w", fingerprint=MARK, created_at=NOON)


def small_bytes() -> bytes:
    return encode_segment(described(small()), small())


def packed(head: object, body: bytes = b"") -> bytes:
    return zstandard.compress(json.dumps(head).encode() + b"\n" + body)


def moved(outcome: Outcome, offset: int) -> Outcome:
    """The same outcome at another offset."""
    data = outcome_to_json(outcome)
    ((kind, fields),) = data.items()
    if kind == "gap":
        assert isinstance(outcome, Gap)
        fields |= {"from": offset, "to": offset + outcome.end - outcome.start}
    else:
        fields["source_kafka_offset" if kind == "frame" else "offset"] = offset
    return segment.outcome_from_json(data)


def in_a_row(start: int, items: Sequence[Outcome]) -> list[Outcome]:
    placed: list[Outcome] = []
    for item in items:
        placed.append(moved(item, start))
        start = offsets_of(placed[-1])[1]
    return placed


def test_the_header_counts_the_outcomes():
    header = described(small())
    assert (header.start, header.end) == (0, 13)
    assert (header.frames, header.gated, header.dead_letters) == (2, 0, 1)
    assert header.gaps == {"before_first_look": 10}
    assert header.days == (DAY, date(2026, 1, 10))
    counted = header.frames + header.gated + header.dead_letters + sum(header.gaps.values())
    assert counted == header.end - header.start


@given(
    chains, st.integers(0, 2**40), st.lists(outcomes, min_size=1, max_size=4), texts, times, st.none() | st.just(MARK)
)
def test_decoding_returns_the_encoded_segment(chain, start, items, writer_id, time, mark):
    placed = in_a_row(start, items)
    header = describe(chain, placed, provenance=PROVENANCE, writer_id=writer_id, fingerprint=mark, created_at=time)
    read = decode_segment(encode_segment(header, placed), KEY)
    assert read.header == header
    assert read.outcomes() == placed


@given(attributes)
def test_attributes_with_line_breaks_of_all_kinds_stay_in_their_line(extra):
    item = moved(frame(0), 0)
    data = outcome_to_json(item)
    data["frame"]["attributes"] = extra | {"breaks": "\n \r \x0b \x0c \x1c \x85 \u2028"}
    placed = [segment.outcome_from_json(data)]
    assert decode_segment(encode_segment(described(placed), placed), KEY).outcomes() == placed


@pytest.mark.parametrize(
    "items",
    [[], [frame(0), frame(2)], [frame(0), frame(0)], [frame(1), frame(0)], [gap(0, 3), frame(2)], [gap(3, 3)]],
    ids=["nothing", "a hole", "an overlap", "backwards", "into a gap", "an empty gap"],
)
def test_outcomes_that_do_not_cover_a_range_make_no_segment(items):
    with pytest.raises(LedgerError, match=r"covers nothing|expected that of offset"):
        described(items)


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing_that_is_read():
    """Readers ignore a few bits of a Zstandard file (RFC 8878, 3.1.1.1.2 and padding)."""
    data, whole = small_bytes(), decode_segment(small_bytes(), KEY)
    unnoticed = 0
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            read = read_or_none(bytes(damaged))
            assert read in (None, whole)
            unnoticed += read is not None
    assert unnoticed < len(data) * 8 / 100


def read_or_none(data: bytes) -> Segment | None:
    try:
        return decode_segment(data, "metadata/the-key")
    except LedgerError as error:
        named = str(error)
    assert "metadata/the-key" in named
    return None


def test_a_segment_cut_at_any_length_is_noticed():
    data = small_bytes()
    assert [length for length in range(len(data)) if read_or_none(data[:length]) is not None] == []


def test_trailing_bytes_after_a_segment_are_noticed():
    assert read_or_none(small_bytes() + b"\x00") is None
    assert read_or_none(small_bytes() * 2) is None


def test_a_removed_or_moved_line_is_noticed():
    lines = zstandard.decompress(small_bytes()).splitlines(keepends=True)
    for changed in (
        lines[:-1],
        [lines[0], lines[2], lines[1], *lines[3:]],
        [*lines, lines[-1]],
        lines[1:],
        [lines[0].strip()],
    ):
        assert read_or_none(zstandard.compress(b"".join(changed))) is None


@pytest.mark.parametrize("version", [0, 4, 99, "5", None])
def test_another_version_is_refused_with_the_release_to_use(version):
    head = json.loads(zstandard.decompress(small_bytes()).splitlines()[0]) | {"format_version": version}
    with pytest.raises(
        LedgerError, match=rf"format version {version!r}; this release reads 5.*Next: use the release of"
    ):
        decode_segment(packed(head), KEY)


@given(
    st.binary()
    | st.binary().map(zstandard.compress)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(packed)
)
def test_foreign_bytes_are_damaged_segments(data):
    assert read_or_none(data) is None


@pytest.mark.parametrize(
    "head",
    [
        {"format_version": 5},
        {"format_version": 5, "checksum": "ab"},
        {"format_version": 5, "x": float("nan")},
        {"format_version": 5, "x": "\ud800"},
        [1],
        "text",
    ],
)
def test_a_header_with_missing_fields_is_damaged(head):
    assert read_or_none(packed(head)) is None


def test_a_header_with_a_valid_checksum_but_invalid_fields_is_damaged():
    good = json.loads(zstandard.decompress(small_bytes()).splitlines()[0])
    good.pop("checksum")
    for field, value in [
        ("chain", good["chain"] | {"topic": "../x"}),
        ("days", ["2026-02-30"]),
        ("frames", None),
        ("provenance", []),
        ("created_at", 1e300),
    ]:
        head = good | {field: value}
        checked = head | {"checksum": segment.checksum_of(head, b"")}
        line = json.dumps(checked, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        assert read_or_none(zstandard.compress(line)) is None


def test_a_claimed_size_beyond_the_limit_is_refused_before_it_is_allocated():
    claims = zstandard.ZstdCompressor().compressobj(size=2**40)
    header = claims.compress(b"x") + claims.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    assert zstandard.frame_content_size(header) == 2**40
    with pytest.raises(LedgerError, match="claims more than"):
        decode_segment(header, KEY)


def test_a_segment_that_is_too_large_to_read_is_not_written(monkeypatch):
    monkeypatch.setattr(segment, "MAX_SEGMENT_BYTES", 100)
    with pytest.raises(LedgerError, match="IMGPIPELINE_SEGMENT_MAX_RECORDS"):
        small_bytes()


def of_every_kind() -> list[Outcome]:
    """Every kind of outcome, with every field filled and with every field empty, and a gap of each reason."""
    notices = [notice(0, kind=kind, minute=minute) for minute, kind in enumerate(NoticeKind)]
    again = replace(notice(0), replay_of="frames/0/3", attributes={"version": "2.1"})
    full = replace(
        frame(0),
        detections=(
            Detection("car", 0, 0.75, (1.0, 2.0, 10.0, 20.0), detector=0),
            Detection("face", 0, 0.5, (3.0, 4.0, 5.0, 6.0), detector=1),
        ),
        detectors=(
            DetectorUse("demo", "ab" * 32, "fp16", 0.5, 0.4),
            DetectorUse("faces", "cd" * 32, "int8", 0.3, None),
        ),
        clock_source=ClockSource.RTCP,
        region_of_interest=(((0.0, 0.0), (640.0, 0.0), (640.0, 240.5)),),
        weak_detections=(Detection("dog", 1, 0.25, (7.0, 8.0, 9.0, 10.0)),),
        sha256="ef" * 32,
        replay_of="frames/0/0",
    )
    dark = replace(frame(0), status=FrameStatus.GATED, gate_reason="dark", gate_measurements={"brightness": 3.25})
    unknown = dict.fromkeys(
        ("processing_timestamp", "image_width", "image_height", "size_bytes", "brightness", "sharpness",
         "confidence_threshold", "nms_threshold", "orientation", "frame_number")
    )  # fmt: skip
    imported = replace(
        frame(0),
        **unknown,
        source_image_path="",
        model_used="",
        model_sha256="",
        attributes={"imported_from": "counts.csv:2"},
        detections=(Detection("car", None, 0.75, None),),
    )
    replayed = replace(dead_letter(0), replay_of="frames/2/41@an-earlier-topic", session=("cam-1", "b3f0"))
    gaps = [Gap(0, 2, reason) for reason in GapReason]
    return in_a_row(0, [*notices, again, full, dark, imported, frame(0), dead_letter(0), replayed, *gaps])


def test_the_golden_segment_can_be_read():
    read = decode_segment(GOLDEN.read_bytes(), KEY)
    assert read.header == described(of_every_kind())
    assert read.outcomes() == of_every_kind()


def test_today_s_segments_have_the_lines_of_the_golden_one():
    golden, today = (
        zstandard.decompress(data)
        for data in (GOLDEN.read_bytes(), encode_segment(described(of_every_kind()), of_every_kind()))
    )
    assert today == golden, "the format has changed: raise FORMAT_VERSION, and write the golden segment again"


def test_a_fingerprint_tells_records_apart():
    def mark(key: bytes | None, value: bytes | None, timestamp_ms: int = 5) -> Fingerprint:
        return Fingerprint.of(KafkaRecord("frames", 0, 7, timestamp_ms, key, value))

    marks = [
        mark(b"a", b"b"),
        mark(b"ab", b""),
        mark(b"", b"ab"),
        mark(None, b"ab"),
        mark(b"ab", None),
        mark(None, None),
    ]
    assert len({m.sha256 for m in marks}) == len(marks)
    assert mark(b"a", b"b") == mark(b"a", b"b")
    assert mark(b"a", b"b") != mark(b"a", b"b", 6)
    assert mark(b"a", b"b").sha256 == "52af9b235fb4683806d44bf6e312a464c12661745b3a8ef5fec4607af7466b54"


def test_times_of_a_header_are_utc():
    assert decode_segment(small_bytes(), KEY).header.created_at == datetime(2026, 1, 9, 12, tzinfo=UTC)
