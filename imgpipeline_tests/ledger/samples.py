"""Chains made by hand: outcomes of given offsets and days, and writers that put them."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from imgpipeline.contracts.keys import ChainId, parse_bucket_key, parse_segment_key
from imgpipeline.contracts.notices import Account, Notice, NoticeKind
from imgpipeline.contracts.outcomes import (
    DeadLetter,
    Frame,
    Gap,
    GapReason,
    Outcome,
    make_frame_id,
    offsets_of,
)
from imgpipeline.contracts.records import RawRecord
from imgpipeline.errors import DeadLetterCode
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.reading import find_end, fix_ends
from imgpipeline.ledger.segment import Fingerprint, Provenance, Segment, decode_segment
from imgpipeline.objectstore import ObjectStore

CHAIN = ChainId("frames", "dGVzdA_topic-id", 0)
DAY = date(2026, 1, 9)
NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
PROVENANCE = Provenance("demo", "ab" * 32, "0123456789abcdef", "run-1")
_names = itertools.count()


def frame(offset: int, day: date = DAY, source: str = "cam-1") -> Frame:
    """Return a frame at noon of a day."""
    time = datetime(day.year, day.month, day.day, 12, tzinfo=UTC) + timedelta(milliseconds=offset % 1000)
    return Frame(
        frame_id=make_frame_id(source, time, offset),
        source=source,
        source_image_path=f"images/{source}/{offset}.jpg",
        frame_number=offset,
        timestamp=time,
        topic=CHAIN.topic,
        partition=CHAIN.partition,
        offset=offset,
        processing_timestamp=NOON,
        image_width=640,
        image_height=480,
        size_bytes=1000,
        brightness=100.0,
        sharpness=10.0,
        model_used="demo",
        model_sha256="ab" * 32,
        confidence_threshold=0.5,
        nms_threshold=0.4,
    )


def dead_letter(offset: int, day: date | None = DAY) -> DeadLetter:
    """Return a dead letter that is listed under a day."""
    return rejected(
        DeadLetter(offset, DeadLetterCode.DECODE_FAILED, "cut short", NOON, day, "cam-1", "a.jpg", 0, None),
        b"\x00\x01\x02",
    )


def rejected(
    letter: DeadLetter, value: bytes, key: bytes | None = None, headers: tuple[tuple[str, bytes], ...] = ()
) -> DeadLetter:
    """Return a dead letter of a record with these bytes."""
    raw = RawRecord(value, key, headers)
    return replace(letter, raw_size_bytes=len(value), raw_sha256=raw.sha256, raw=raw)


def notice(offset: int, day: date = DAY, kind: NoticeKind = NoticeKind.ACCOUNT, minute: int = 0) -> Notice:
    """Return what a source reports at noon of a day: the account of a minute, or another kind with a reason."""
    start = datetime(day.year, day.month, day.day, 12, minute, tzinfo=UTC)
    if kind is not NoticeKind.ACCOUNT:
        return Notice(offset, kind, "cam-1", "session-1", start, start, reason="cable")
    account = Account(100, 60, 30, {"queue": 9}, 1, 59.5, start, start + timedelta(minutes=1))
    return Notice(offset, kind, "cam-1", "session-1", start, start + timedelta(minutes=1), account=account)


def gap(start: int, end: int) -> Gap:
    """Return a gap of records that were deleted before the first run."""
    return Gap(start, end, GapReason.BEFORE_FIRST_LOOK)


def frames(start: int, end: int, day: date = DAY) -> list[Outcome]:
    """Return a frame for each offset of a range."""
    return [frame(offset, day) for offset in range(start, end)]


def writer(store: ObjectStore, chain: ChainId = CHAIN) -> ChainWriter:
    """Return a writer at the chain's end."""
    return ChainWriter(store, find_end(store, chain), DayIndex(store))


def append(
    to: ChainWriter, outcomes: Sequence[Outcome], writer_id: str | None = None, provenance: Provenance = PROVENANCE
) -> bool:
    """Append outcomes as one segment with a unique writer id."""
    last = offsets_of(outcomes[-1])[1] - 1
    return to.append(
        outcomes,
        provenance=provenance,
        writer_id=writer_id or f"writer-{next(_names)}",
        fingerprint=Fingerprint(last, 1767960000000, "cd" * 32),
        created_at=NOON,
    )


def write_chain(
    store: ObjectStore, *segments: Sequence[Outcome], chain: ChainId = CHAIN, provenance: Provenance = PROVENANCE
) -> ChainWriter:
    """Write segments in order and return their writer."""
    made = writer(store, chain)
    for outcomes in segments:
        assert append(made, outcomes, provenance=provenance)
    return made


def stored_segments(store: ObjectStore, chain: ChainId = CHAIN) -> list[Segment]:
    """Return all segments of a chain by reading every object: an oracle without search and index."""
    keys = [info.key for info in store.list_objects() if (parse_segment_key(info.key) or (None,))[0] == chain]
    return [decode_segment(store.get(key), key) for key in sorted(keys)]


def check_ledger(store: ObjectStore, chain: ChainId = CHAIN) -> int:
    """Assert that every offset has exactly one outcome and every segment of a day is in its index; return the end."""
    position = 0
    indexed = {parse_bucket_key(info.key) for info in store.list_objects("metadata_days")}
    buckets = {(bucket.day, bucket.number) for bucket in indexed if bucket and bucket.chain == chain}
    for segment in stored_segments(store, chain):
        assert segment.header.start == position, f"hole or overlap at {position}"
        for outcome in segment.outcomes():
            first, behind = offsets_of(outcome)
            assert first == position
            position = behind
        assert segment.header.end == position
        for day in segment.header.days:
            assert (day, segment.header.start // 1000) in buckets, f"no index for {day} at {segment.header.start}"
    return position


def ends_of(store: ObjectStore) -> dict[ChainId, int]:
    """Return where each chain ends now."""
    return {chain: end.offset for chain, end in fix_ends(store).items()}
