"""Computes every number of the day tables and summaries from the ledger's lines with plain pandas.

Shares neither reader nor SQL with what it is compared with: segments are opened by zstandard and json alone, the stored
Parquet by pandas. Numbers are compared exactly, means up to the last digits of a double.
"""

import io
import json
import math
from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Any

import pandas as pd
import zstandard

from imgpipeline.contracts.keys import METADATA, day_table_key, parse_segment_key, summary_key
from imgpipeline.objectstore import ObjectStore

Rows = list[dict[str, Any]]


class Ledger:
    """The lines of all segments, as two data frames."""

    def __init__(self, store: ObjectStore) -> None:
        frames, letters = [], []
        for info in store.list_objects(METADATA):
            parsed = parse_segment_key(info.key)
            assert parsed is not None, info.key
            chain, _ = parsed
            lines = zstandard.ZstdDecompressor().decompress(store.get(info.key)).splitlines()
            for line in lines[1:]:
                data = json.loads(line)
                if "frame" in data:
                    frames.append({**data["frame"], "topic_id": chain.topic_id})
                elif "dead_letter" in data:
                    letters.append(data["dead_letter"])
        self.frames = pd.DataFrame(frames)
        self.letters = pd.DataFrame(letters, columns=["offset", "code", "timestamp", "source", "day"])
        self.frames["at"] = pd.to_datetime(self.frames["timestamp"], format="ISO8601", utc=True)
        self.frames["done"] = pd.to_datetime(self.frames["processing_timestamp"], format="ISO8601", utc=True)
        self.letters["at"] = pd.to_datetime(self.letters["timestamp"], format="ISO8601", utc=True)

    def days(self) -> list[date]:
        """Return the days that have frames or dead letters."""
        return sorted({*self.frames["at"].dt.date, *(date.fromisoformat(d) for d in self.letters["day"].dropna())})

    def frames_of(self, day: date) -> pd.DataFrame:
        """Return the frames of a day, one per id: processed before gated, then the first announcement."""
        found = self.frames[self.frames["at"].dt.date == day].copy()
        found["is_gated"] = found["status"] != "processed"
        order = ["is_gated", "source_kafka_topic", "source_kafka_partition", "source_kafka_offset", "topic_id"]
        return found.sort_values(order).drop_duplicates("frame_id")

    def letters_of(self, day: date) -> pd.DataFrame:
        """Return the dead letters that are listed under a day."""
        return self.letters[self.letters["day"] == day.isoformat()]

    def detections_of(self, day: date) -> pd.DataFrame:
        """Return one row a detection of the frames of a day."""
        rows = [
            {"frame_id": f.frame_id, "source": f.source, "at": f.at, "label": d["label"], "confidence": d["confidence"]}
            for f in self.frames_of(day).itertuples()
            for d in f.detections
        ]
        return pd.DataFrame(rows, columns=["frame_id", "source", "at", "label", "confidence"])


def label_counts(ledger: Ledger, day: date) -> Rows:
    """Count labels by hour and source."""
    found = ledger.detections_of(day)
    return [
        {
            "hour": hour,
            "source": source,
            "label": label,
            "count": len(rows),
            "distinct_frames": rows["frame_id"].nunique(),
            "first_seen": rows["at"].min(),
            "last_seen": rows["at"].max(),
            "mean_confidence": math.fsum(rows["confidence"].round(6)) / len(rows),
            "min_confidence": rows["confidence"].min(),
            "max_confidence": rows["confidence"].max(),
        }
        for (hour, source, label), rows in found.groupby([found["at"].dt.floor("h"), "source", "label"])
    ]


def label_timestamps(ledger: Ledger, day: date) -> Rows:
    """List the times of each source, label and hour."""
    found = ledger.detections_of(day)
    return [
        {"hour": hour, "source": source, "label": label, "count": len(rows), "timestamps": sorted(rows["at"])}
        for (hour, source, label), rows in found.groupby([found["at"].dt.floor("h"), "source", "label"])
    ]


def label_totals(ledger: Ledger, day: date) -> Rows:
    """Count labels of each source in the whole day."""
    found = ledger.detections_of(day)
    totals = Counter(zip(found["source"], found["label"], strict=True))
    return [{"source": source, "label": label, "count": count} for (source, label), count in totals.items()]


def frame_stats(ledger: Ledger, day: date) -> Rows:
    """Count frames and their properties by hour and source."""
    frames, letters = ledger.frames_of(day), ledger.letters_of(day)
    by_hour = dict(iter(frames.groupby([frames["at"].dt.floor("h"), "source"])))
    # A dead letter has the time of its Kafka record: written on another day, it has no hour of this one.
    dead = Counter(
        (at.floor("h") if at.date() == day else None, source or None)
        for at, source in zip(letters["at"], letters["source"], strict=True)
    )
    return [
        {
            "hour": hour,
            "source": source,
            "dead_letters": dead[hour, source],
            **_of_frames(by_hour.get((hour, source), frames[:0])),
        }
        for hour, source in {*by_hour, *dead}
    ]


def _of_frames(rows: pd.DataFrame) -> dict[str, Any]:
    dimensions = [f"{w}x{h}" for w, h in zip(rows["image_width"], rows["image_height"], strict=True)]
    latencies = (rows["done"] - rows["at"]).dt.total_seconds()
    processed = int((rows["status"] == "processed").sum())
    return {
        "frames": len(rows),
        "processed": processed,
        "gated": len(rows) - processed,
        "size_bytes": int(rows["size_bytes"].sum()),
        "sizes": Counter(_power_of_two(size) for size in rows["size_bytes"]),
        "dimensions": Counter(dimensions),
        "brightness": Counter(int(value // 16) * 16 for value in rows["brightness"]),
        "sharpness": Counter(_power_of_two(value) if value >= 1 else 0 for value in rows["sharpness"]),
        "latency": latencies,
    }


def source_activity(ledger: Ledger, day: date) -> Rows:
    """Return when each source was active."""
    frames, letters = ledger.frames_of(day), ledger.letters_of(day)
    dead = Counter(source or None for source in letters["source"])
    found = dict(iter(frames.groupby("source")))
    return [
        {"source": source, "dead_letters": dead[source], **_activity(found.get(source, frames[:0]))}
        for source in {*found, *dead}
    ]


def _activity(rows: pd.DataFrame) -> dict[str, Any]:
    times = rows["at"].sort_values()
    pauses = times.diff().dt.total_seconds()
    processed = int((rows["status"] == "processed").sum())
    return {
        "frames": len(rows),
        "processed": processed,
        "gated": len(rows) - processed,
        "first_seen": times.min() if len(rows) else None,
        "last_seen": times.max() if len(rows) else None,
        "active_hours": times.dt.floor("h").nunique(),
        "longest_pause_s": pauses.max() if len(rows) > 1 else None,
        "size_bytes": int(rows["size_bytes"].sum()),
    }


def _power_of_two(value: float) -> int:
    return 2 ** math.floor(math.log2(value))


SUMMARIES = {f.__name__: f for f in (label_counts, label_timestamps, label_totals, frame_stats, source_activity)}
"""The computations by the summary's name."""


def stored_rows(store: ObjectStore, name: str, day: date) -> Rows:
    """Read a stored summary with pandas."""
    return read_rows(store.get(summary_key(name, day)))


def stored_table(store: ObjectStore, name: str, day: date) -> Rows:
    """Read a stored day table with pandas."""
    return read_rows(store.get(day_table_key(name, day)))


def read_rows(data: bytes) -> Rows:
    """Read a Parquet file with pandas."""
    rows = pd.read_parquet(io.BytesIO(data)).astype(object).to_dict("records")
    return [{name: None if value is pd.NaT else value for name, value in row.items()} for row in rows]


def by(rows: Iterable[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return rows by key; each key must be unique."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        assert key not in found, f"{key} is there twice"
        found[key] = row
    return found
