"""Creates a day of very many frames in the ledger within seconds: documents are filled in, not detected.

The segments are real: the ledger's own code writes headers, checksums and the day index, and a line is a metadata
document with the fields of `Frame.to_json`, except for the values that are filled in.
"""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.contracts.outcomes import Frame, make_frame_id
from imgpipeline.contracts.times import format_time
from imgpipeline.ledger.days import DayIndex
from imgpipeline.ledger.segment import Fingerprint, Provenance, SegmentHeader, seal_segment
from imgpipeline.objectstore import ObjectStore

DAY = date(2026, 1, 9)
"""The day that is made, unless another one is asked for."""
LABELS = ("person", "bicycle", "car", "motorbike", "bus", "truck", "dog", "cat", "bench", "umbrella")
"""Of what is detected."""
_PROVENANCE = Provenance("yolox-nano", "ab" * 32, "0123456789abcdef", "benchmark")
_WRITERS = 2


@dataclass(frozen=True, slots=True)
class SyntheticDay:
    """What a day shall be like."""

    frames: int
    """Frames, over all partitions."""
    partitions: int = 2
    """Topic partitions that they are spread over; each source has one."""
    detections_a_frame: int = 3
    """Detections of each frame."""
    day: date = DAY
    """UTC day; the frames lie evenly in it."""
    segment_frames: int = 1000
    """Frames of each segment: a busy partition puts one a second, a backlog is put in long ones."""
    variants: int = 997
    """Different lists of detections; a prime, so that they do not fall into step with anything."""
    topic_id: str = "synthetic"
    """Makes chains of their own, where a store gets several days."""
    image: tuple[str, int] | None = None
    """Key and size of the image that all frames show; None: each frame names one that does not exist."""

    def chains(self) -> list[ChainId]:
        """Returns the chains that are made."""
        return [ChainId("frames", self.topic_id, partition) for partition in range(self.partitions)]


def make_day(store: ObjectStore, wanted: SyntheticDay, segments: slice = slice(None)) -> int:
    """Puts a day into a ledger that has none of these chains yet.

    Args:
        store: The object store.
        wanted: What the day is like.
        segments: Which of its segments, such as `slice(100)` for the first 100; default: all.

    Returns:
        The size of its lines in bytes, as they are uncompressed.
    """
    template, variants = _template(wanted), _detection_lists(wanted)
    index = DayIndex(store)

    def put(piece: tuple[ChainId, int, int]) -> int:
        chain, start, end = piece
        body = _lines(wanted, template, variants, chain, range(start, end))
        header = _header(wanted, chain, start, end)
        index.cover(header)
        if not store.create(segment_key(chain, start), seal_segment(header, body)):
            raise RuntimeError(f"{chain} has a segment at {start} already")
        return len(body)

    with ThreadPoolExecutor(_WRITERS) as pool:
        return sum(pool.map(put, list(_pieces(wanted))[segments]))


def _pieces(wanted: SyntheticDay) -> Iterator[tuple[ChainId, int, int]]:
    for number, chain in enumerate(wanted.chains()):
        total = wanted.frames // wanted.partitions + (number < wanted.frames % wanted.partitions)
        for start in range(0, total, wanted.segment_frames):
            yield chain, start, min(start + wanted.segment_frames, total)


def _lines(wanted: SyntheticDay, template: str, variants: list[str], chain: ChainId, offsets: range) -> bytes:
    begin = datetime(wanted.day.year, wanted.day.month, wanted.day.day, tzinfo=UTC)
    step = timedelta(days=1) / (wanted.frames + wanted.partitions)
    source, filled = f"camera-{chain.partition}", []
    for offset in offsets:
        number = offset * wanted.partitions + chain.partition
        time = begin + number * step
        processed = time + timedelta(seconds=0.1 + number % 50 / 10)
        path, size = wanted.image or (f"images/{source}/2026-01-09/{number:012d}.jpg", 80_000 + number % 7919)
        filled.append(
            template % (
                make_frame_id(source, time, offset), source, path, offset, format_time(time),
                chain.partition, offset, format_time(processed), size, number % 2550 / 10, number % 9973 / 7,
                variants[number % wanted.variants],
            )
        )  # fmt: skip
    return "".join(filled).encode()


def _template(wanted: SyntheticDay) -> str:
    """Returns the line of a document with places for what differs from frame to frame."""
    now = datetime(wanted.day.year, wanted.day.month, wanted.day.day, tzinfo=UTC)
    document = Frame("", "", "", 0, now, "frames", 0, 0, now, 1280, 720, 0, 0.0, 0.0, _PROVENANCE.model_name,
                     _PROVENANCE.model_sha256, 0.5, 0.4).to_json()  # fmt: skip
    places = {
        "frame_id": '"%s"', "source": '"%s"', "source_image_path": '"%s"',
        "frame_number": "%d", "timestamp": '"%s"', "source_kafka_partition": "%d", "source_kafka_offset": "%d",
        "processing_timestamp": '"%s"', "size_bytes": "%d", "brightness": "%.1f", "sharpness": "%.3f",
        "detections": "%s",
    }  # fmt: skip
    fields = (f'"{name}":{places.get(name) or _json(value)}' for name, value in document.items())
    return '{"frame":{' + ",".join(fields) + "}}\n"


def _detection_lists(wanted: SyntheticDay) -> list[str]:
    chance = random.Random(7)  # noqa: S311 - the same day each time
    return [
        _json([_detection(chance).to_json() for _ in range(wanted.detections_a_frame)]) for _ in range(wanted.variants)
    ]  # fmt: skip


def _detection(chance: random.Random) -> Detection:
    number = chance.randrange(len(LABELS))
    width, height = chance.uniform(20, 300), chance.uniform(20, 300)
    box = (chance.uniform(0, 1280 - width), chance.uniform(0, 720 - height), width, height)
    return Detection(LABELS[number], number, chance.uniform(0.51, 0.99), box)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _header(wanted: SyntheticDay, chain: ChainId, start: int, end: int) -> SegmentHeader:
    now = datetime(wanted.day.year, wanted.day.month, wanted.day.day, tzinfo=UTC) + timedelta(days=1)
    return SegmentHeader(
        chain=chain,
        start=start,
        end=end,
        frames=end - start,
        gated=0,
        dead_letters=0,
        notices=0,
        gaps={},
        days=(wanted.day,),
        provenance=_PROVENANCE,
        writer_id=f"synthetic-{chain.partition}-{start}",
        fingerprint=Fingerprint(end - 1, 0, "cd" * 32),
        created_at=now,
    )
