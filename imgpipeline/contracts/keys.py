"""The keys of the object store: the only module that makes or parses them.

All keys are relative to the store's prefix, hold only `A-Z a-z 0-9 . _ - = ~ /`, and sort as their numbers do.
Reading or writing objects does not belong here.
"""

import re
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

METADATA = "metadata"
"""Prefix of the ledger's segments."""
DAY_INDEX = "metadata_days"
"""Prefix of the ledger's day index."""
IMAGES = "images"
"""Prefix of the stored images."""

FAN_OUT_OFFSETS = 100_000
"""Offsets a folder of segments holds, so that listings stay small."""
BUCKET_OFFSETS = 1_000
"""Offsets one entry of the day index stands for."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SEGMENT = re.compile(
    rf"{METADATA}/(?P<topic>[^/]+)/(?P<topic_id>[^/]+)/(?P<partition>\d{{5,}})/\d{{15}}/(?P<start>\d{{20}})\.jsonl\.zst"
)
_BUCKET = re.compile(
    rf"{DAY_INDEX}/(?P<day>\d{{4}}-\d\d-\d\d)/(?P<topic>[^/]+)/(?P<topic_id>[^/]+)/(?P<partition>\d{{5,}})/(?P<bucket>\d{{15}})"
)


@dataclass(frozen=True, slots=True, order=True)
class ChainId:
    """Which topic partition a chain of segments belongs to."""

    topic: str
    """Kafka topic."""
    topic_id: str
    """Kafka's id of this incarnation of the topic (or `cluster id.topic` where the broker tells none)."""
    partition: int
    """Kafka partition, from 0."""

    def __str__(self) -> str:
        return f"{self.topic}/{self.topic_id}/{self.partition}"


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """One entry of the day index: segments that may touch a day."""

    day: date
    """The UTC day that is touched."""
    chain: ChainId
    """The chain whose segments touch it."""
    number: int
    """The segments start in `[number * 1000, (number + 1) * 1000)`."""


def chain_prefix(chain: ChainId) -> str:
    """Returns the prefix below which all segments of a chain lie, without a final slash."""
    return f"{METADATA}/{chain.topic}/{chain.topic_id}/{chain.partition:05d}"


def fan_out_prefix(chain: ChainId, start: int) -> str:
    """Returns the folder of the segment that starts at an offset."""
    return f"{chain_prefix(chain)}/{start // FAN_OUT_OFFSETS:015d}"


def segment_key(chain: ChainId, start: int) -> str:
    """Returns the key of the segment that starts at an offset."""
    return f"{fan_out_prefix(chain, start)}/{start:020d}.jsonl.zst"


def parse_segment_key(key: str) -> tuple[ChainId, int] | None:
    """Returns chain and start of a segment's key, or None where the key is not one of a segment."""
    match = _SEGMENT.fullmatch(key)
    if match is None:
        return None
    chain = ChainId(match["topic"], match["topic_id"], int(match["partition"]))
    start = int(match["start"])
    return (chain, start) if segment_key(chain, start) == key else None


def bucket_key(bucket: Bucket) -> str:
    """Returns the key of an entry of the day index."""
    chain = bucket.chain
    return (
        f"{DAY_INDEX}/{bucket.day.isoformat()}/{chain.topic}/{chain.topic_id}"
        f"/{chain.partition:05d}/{bucket.number:015d}"
    )


def bucket_of(day: date, chain: ChainId, start: int) -> Bucket:
    """Returns the entry of the day index for a segment that starts at an offset and touches a day."""
    return Bucket(day, chain, start // BUCKET_OFFSETS)


def parse_bucket_key(key: str) -> Bucket | None:
    """Returns the entry of the day index that a key stands for, or None where it is none."""
    match = _BUCKET.fullmatch(key)
    if match is None:
        return None
    chain = ChainId(match["topic"], match["topic_id"], int(match["partition"]))
    return Bucket(date.fromisoformat(match["day"]), chain, int(match["bucket"]))


def day_table_key(table: str, day: date) -> str:
    """Returns the key of a daily table: `frames/day=2026-01-09/frames.parquet`."""
    return f"{table}/day={day.isoformat()}/{table}.parquet"


def summary_key(name: str, day: date) -> str:
    """Returns the key of a daily summary: `summaries/label_counts/day=2026-01-09/label_counts.parquet`."""
    return f"summaries/{name}/day={day.isoformat()}/{name}.parquet"


def parse_day(key: str) -> date | None:
    """Returns the day that a key of a daily table or summary belongs to, or None where it names none."""
    match = re.search(r"/day=(\d{4}-\d\d-\d\d)/", key)
    return date.fromisoformat(match[1]) if match else None


def image_key(source: str, day: date, name: str) -> str:
    """Returns the key under which an image is stored: `images/{source}/{day}/{name}`."""
    return f"{IMAGES}/{safe_name(source)}/{day.isoformat()}/{safe_name(name)}"


def safe_name(name: str) -> str:
    """Returns a name as one part of a key.

    Names of letters, digits, `.`, `_` and `-` stay as they are; of others those characters are kept and a hash
    of the whole is added, so that two names never share a part.
    """
    if _SAFE_NAME.fullmatch(name):
        return name
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    stem, dot, ending = kept.rpartition(".")
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    if dot and len(ending) <= 5:
        return f"{stem[:60]}~{digest}.{ending}"
    return f"{kept[:60]}~{digest}"
