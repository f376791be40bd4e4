"""The one promise that every fault is checked against, by plain Python over the objects of the store.

* Every offset of every partition is exactly once in {frame, dead letter, recorded gap}, up to the log's end.
* The chain of segments has neither hole nor overlap, and the day index misses no segment.
* The live view, the day's Parquet and the summaries show exactly the frames of the segments, each once.

The oracle reads segments by zstandard and json alone: it shares neither reader nor SQL with what it checks.
"""

import base64
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import zstandard

from imgpipeline.contracts.keys import DAY_INDEX, METADATA, ChainId, parse_bucket_key, parse_segment_key
from imgpipeline.contracts.records import LogRange
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.stream.log import read_log
from imgpipeline_tests.daily.builds import build_summary

Row = tuple[Any, ...]


@dataclass
class Held:
    """What the ledger holds, by kind."""

    ends: dict[ChainId, int] = field(default_factory=dict)
    """End of each chain, by walking it from offset 0."""
    frames: list[dict[str, Any]] = field(default_factory=list)
    """Metadata documents with `chain` added, in the order of chains and offsets."""
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    """Dead letters, in the same order."""
    notices: list[dict[str, Any]] = field(default_factory=list)
    """Notices, in the same order."""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    """Gaps, in the same order."""
    objects: dict[ChainId, dict[str, str]] = field(default_factory=dict)
    """E-tag of each segment by its key, by chain: what must stay as it is, whatever becomes of its topic."""

    def chain_of(self, log: LogRange) -> ChainId:
        """Returns the chain that a log has now: its first one, or the one behind those that were closed."""
        closed = {gap["chain"] for gap in self.gaps if gap["reason"] == "closed"}
        number, chain = 1, ChainId(log.topic, log.topic_id, log.partition)
        while chain in closed:
            number += 1
            chain = ChainId(log.topic, f"{log.topic_id}~{number}", log.partition)
        return chain

    def frames_of(self, topic_id: str) -> list[dict[str, Any]]:
        """Returns the frames of one incarnation of the topic."""
        return [frame for frame in self.frames if frame["chain"].topic_id == topic_id]

    @property
    def codes(self) -> Counter[str]:
        """How many dead letters there are of each code."""
        return Counter(letter["code"] for letter in self.dead_letters)

    @property
    def gap_reasons(self) -> Counter[str]:
        """How many offsets lie in gaps of each reason."""
        return sum((Counter({gap["reason"]: gap["to"] - gap["from"]}) for gap in self.gaps), Counter[str]())


def check(settings: Settings, *, drained: bool = True, before: Held | None = None) -> Held:
    """Asserts the whole promise and answers what the ledger holds.

    Builds the tables of every day as a side effect, since they are compared before and after.

    Args:
        settings: Name broker, topic and store; without any fault in between.
        drained: Whether the ledger has to reach the end of the log in every partition.
        before: What was held earlier: its segments must be there unchanged, and chains that no log has must not have
            grown, unless by their closing.
    """
    store, logs = open_store(settings), read_log(settings)
    held = read_ledger(store)
    for log in logs:
        chain = held.chain_of(log)
        end = held.ends.get(chain, 0)
        assert end <= log.log_end, f"{chain} ends at {end}, behind the log's end {log.log_end}"
        assert end == log.log_end or not drained, f"{chain} ends at {end}, the log at {log.log_end}"
    if before is not None:
        check_unchanged(before, held, {held.chain_of(log) for log in logs})
    check_tables(store, held)
    check_audit(store, logs, allow_gaps=settings.allow_gaps)
    return held


def raw_of(store: ObjectStore, letter: Mapping[str, Any]) -> bytes:
    """Returns the value of a dead letter's record, from its own object."""
    chain: ChainId = letter["chain"]
    folder = f"metadata_raw_records/{chain.topic}/{chain.topic_id}/{chain.partition:05d}"
    stored = store.get(f"{folder}/{letter['offset']:020d}.{letter['raw_sha256']}.json")
    return base64.b64decode(json.loads(stored)["raw_base64"])


def check_unchanged(before: Held, held: Held, growing: Collection[ChainId]) -> None:
    """Asserts that no segment was changed or removed, and that only chains of present logs have grown."""
    for chain, objects in before.objects.items():
        now = held.objects.get(chain, {})
        assert objects.items() <= now.items(), f"segments of {chain} were changed or removed"
        closing = 1 if any(gap["chain"] == chain and gap["reason"] == "closed" for gap in held.gaps) else 0
        grown = held.ends[chain] - before.ends[chain]
        assert chain in growing or grown == closing, f"{chain} has no log any more, but grew by {grown} offsets"


def check_tables(store: ObjectStore, held: Held) -> None:
    """Asserts that live view, Parquet and summaries show what the ledger holds."""
    expected_frames, expected_counts = chosen(held.frames), count_labels(held.frames)
    days = sorted({date.fromisoformat(frame["timestamp"][:10]) for frame in held.frames})
    frames, counts = shown(store)
    assert frames == expected_frames, "the live view does not show the ledger's frames"
    assert counts == expected_counts, "the live counts are not those of the ledger's detections"
    for day in days:
        rebuild_day(store, day, now=utc_now())
        build_summary(store, "label_counts", day, settings=Settings(), now=utc_now())
    frames, counts = shown(store)
    assert frames == expected_frames, "the day tables do not show the ledger's frames"
    assert counts == expected_counts, "the summaries are not those of the ledger's detections"


def check_audit(store: ObjectStore, logs: Iterable[LogRange], *, allow_gaps: bool = False) -> None:
    """Asserts that the audit which users have finds nothing either."""
    report = audit(store, lambda: list(logs), now=utc_now(), full=True, allow_gaps=allow_gaps)
    assert not report.problems, report.problems


def read_ledger(store: ObjectStore) -> Held:
    """Reads every segment there is and asserts that the chains are whole."""
    held = Held()
    indexed = {parse_bucket_key(info.key) for info in store.list_objects(DAY_INDEX)}
    for key, e_tag in sorted((info.key, info.e_tag) for info in store.list_objects(METADATA)):
        parsed = parse_segment_key(key)
        assert parsed is not None, f"{key} is not a segment"
        chain, start = parsed
        header, *lines = unpack(store.get(key))
        position = held.ends.get(chain, 0)
        assert (header["start"], start) == (position, position), f"hole or overlap at {position}: {key}"
        for line in lines:
            position = _take(held, chain, line, position)
        assert header["end"] == position, f"{key} says it ends at {header['end']}, its outcomes end at {position}"
        held.ends[chain] = position
        held.objects.setdefault(chain, {})[key] = e_tag
        for day in header["days"]:
            assert any(
                bucket and bucket.chain == chain and bucket.day.isoformat() == day and bucket.number == start // 1000
                for bucket in indexed
            ), f"the day index misses {key} for {day}"
    return held


def unpack(data: bytes) -> list[dict[str, Any]]:
    """Returns the lines of a segment, its header first."""
    text = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return [json.loads(line) for line in text.splitlines()]


def _take(held: Held, chain: ChainId, line: Mapping[str, Any], position: int) -> int:
    """Notes one outcome; returns the offset behind it."""
    ((kind, outcome),) = line.items()
    last = held.gaps[-1] if held.gaps else {}
    closed = (last.get("chain"), last.get("reason")) == (chain, "closed")
    assert not closed, f"{chain} is closed at {last.get('to')}, but goes on"
    if kind == "gap":
        assert outcome["from"] == position < outcome["to"]
        held.gaps.append({**outcome, "chain": chain})
        return int(outcome["to"])
    offset = outcome["source_kafka_offset" if kind == "frame" else "offset"]
    assert offset == position, f"{chain}: the outcome of {offset} is where {position} was expected"
    kinds = {"frame": held.frames, "dead_letter": held.dead_letters, "notice": held.notices}
    kinds[kind].append({**outcome, "chain": chain})
    return position + 1


def chosen(frames: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Returns the frames of `shown` that DESIGN's rule leaves: each frame_id once a day."""
    return sorted((name, *rank) for (_, name), rank in _best(frames).items())


def _best(frames: Iterable[Mapping[str, Any]]) -> dict[tuple[date, str], Row]:
    best: dict[tuple[date, str], Row] = {}
    for frame in frames:
        chain = frame["chain"]
        where = (chain.topic, chain.partition, frame["source_kafka_offset"], chain.topic_id)
        rank = (frame["status"] != "processed", *where)
        best[_key(frame)] = min(best.get(_key(frame), rank), rank)
    return best


def _key(frame: Mapping[str, Any]) -> tuple[date, str]:
    return datetime.fromisoformat(frame["timestamp"]).astimezone(UTC).date(), frame["frame_id"]


def count_labels(frames: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Returns hour, source, label and count of the chosen frames' detections."""
    frames = list(frames)
    kept = {key: rank[1:] for key, rank in _best(frames).items()}
    counts: Counter[Row] = Counter()
    for frame in frames:
        chain = frame["chain"]
        where = (chain.topic, chain.partition, frame["source_kafka_offset"], chain.topic_id)
        if kept[_key(frame)] == where:
            hour = datetime.fromisoformat(frame["timestamp"]).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            counts.update((hour, frame["source"], found["label"]) for found in frame["detections"])
    return sorted((*key, count) for key, count in counts.items())


def shown(store: ObjectStore) -> tuple[list[Row], list[Row]]:
    """Returns what a reader sees now.

    Returns:
        The frames (name, whether gated, topic, partition, offset, topic id), and the label counts by source.
    """
    asked = (
        "SELECT frame_id, status <> 'processed', source_kafka_topic, source_kafka_partition, source_kafka_offset, "
        "source_kafka_topic_id FROM frames"
    )
    with open_lake(store) as session:
        counts = session.query("SELECT hour, source, label, count FROM label_counts")
        return sorted(session.query(asked).rows), sorted(counts.rows)
