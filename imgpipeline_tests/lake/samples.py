"""Frames with detections, and an oracle that counts them without DuckDB."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import DeadLetter, Frame, FrameStatus, Outcome
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.ledger.reading import list_chains
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.ledger.samples import DAY, frame, stored_segments

LABELS = ("car", "person", "dog")


def detection(label: str = "car", confidence: float = 0.75, x: float = 1.0) -> Detection:
    """Return a detection of 10 x 20 pixels."""
    return Detection(label, LABELS.index(label) if label in LABELS else 99, confidence, (x, 2.0, 10.0, 20.0))


def seen(offset: int, labels: Iterable[str] = ("car",), day: date = DAY, **changes: Any) -> Frame:
    """Return a frame with one detection for each label."""
    found = tuple(detection(label, 0.5 + 0.01 * (n + 1)) for n, label in enumerate(labels))
    return replace(frame(offset, day), detections=found, **changes)


def again(offset: int, of: int, labels: Iterable[str] = (), **changes: Any) -> Frame:
    """Return a frame that was announced a second time: at another offset, with the same name."""
    return replace(seen(of, labels), offset=offset, **changes)


def gated(offset: int, **changes: Any) -> Frame:
    """Return a frame that was gated."""
    return replace(frame(offset), status=FrameStatus.GATED, gate_reason="dark", **changes)


def chosen_frames(store: ObjectStore, day: date = DAY) -> dict[str, Frame]:
    """Return the frames of a day by name, by reading every segment there is: an oracle in plain Python."""
    found: dict[str, list[tuple[Any, Frame]]] = defaultdict(list)
    for chain in list_chains(store):
        for segment in stored_segments(store, chain):
            for outcome in segment.outcomes():
                if isinstance(outcome, Frame) and outcome.day == day:
                    rank = (outcome.status is FrameStatus.GATED, outcome.topic, outcome.partition, outcome.offset,
                            chain.topic_id)  # fmt: skip
                    found[outcome.frame_id].append((rank, outcome))
    return {name: min(several, key=lambda pair: pair[0])[1] for name, several in found.items()}


def stored_letters(store: ObjectStore, day: date = DAY) -> list[tuple[Any, ...]]:
    """Return the dead letters of a day as the table has them, sorted, by reading every segment there is."""
    return sorted(
        (chain.topic, chain.topic_id, chain.partition, letter.offset, letter.code.value, letter.message,
         letter.timestamp, letter.source, letter.image_path, letter.raw_size_bytes, letter.replay_of)
        for chain in list_chains(store)
        for segment in stored_segments(store, chain)
        for letter in segment.outcomes()
        if isinstance(letter, DeadLetter) and letter.day == day
    )  # fmt: skip


def counted_labels(frames: Iterable[Frame]) -> list[tuple[datetime, str, str, int, int, float]]:
    """Return hour, source, label, count, distinct frames and mean confidence, sorted."""
    groups: dict[tuple[datetime, str, str], list[tuple[Frame, Detection]]] = defaultdict(list)
    for each in frames:
        for found in each.detections:
            hour = each.timestamp.replace(minute=0, second=0, microsecond=0)
            groups[hour, each.source, found.label].append((each, found))
    return sorted(
        (
            *key,
            len(pairs),
            len({each.frame_id for each, _ in pairs}),
            sum(round(found.confidence * 1e6) for _, found in pairs) / len(pairs) / 1e6,
        )
        for key, pairs in groups.items()
    )


def day_outcomes(start: int, end: int) -> list[Outcome]:
    """Return frames with none to three detections, over several labels."""
    return [seen(offset, [LABELS[(offset + n) % 3] for n in range(offset % 4)]) for offset in range(start, end)]


def counted_days(lake: LakeSession, name: str) -> list[date]:
    """Return the days of a summary that the session counts, as its view reads no stored file of them."""
    ((view,),) = lake.query(f"SELECT sql FROM duckdb_views() WHERE view_name = '{name}'").rows  # noqa: S608 - own names
    return [day for day in lake.snapshot.days if f"day={day}" not in view]
