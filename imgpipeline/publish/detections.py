"""Publishes the detections of each frame, by following the ledger.

Each batch of the ledger is one Kafka transaction with the checkpoint after it. A frame is published when the ledger
gets its first outcome; outcomes that a repair writes for published offsets are not published.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame, FrameStatus, Outcome, offsets_of
from imgpipeline.ledger.checkpoint import Checkpoint
from imgpipeline.ledger.days import read_day
from imgpipeline.ledger.follow import Batch, follow
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.transactions import (
    Form,
    Publication,
    ResultBatch,
    ResultPublisher,
    Run,
    classic_frame,
    record_of,
)
from imgpipeline.stream.send import Record

_BATCH_SEGMENTS = 64
_CACHED_DAYS = 4


def publish_detections(run: Run, wanted: Publication) -> int:
    """Publishes what the ledger has after the last checkpoint; result and errors as `ResultPublisher.run`.

    Raises:
        LostCheckpointError: The checkpoint belongs to another ledger.
        LedgerError: A segment cannot be read; everything before it is published.
    """
    publisher = ResultPublisher(wanted.topic, wanted.name_of("detections"), _Published.from_json, _Published)
    seen = _SeenFrames(run.store)

    def batches(published: _Published) -> Iterator[ResultBatch]:
        for read in follow(run.store, published.checkpoint, batch_segments=_BATCH_SEGMENTS):
            records = _records_of(read, published, seen, wanted)
            published.checkpoint = read.checkpoint
            yield ResultBatch(records, published.to_json())

    return publisher.run(run, batches)


@dataclass(slots=True)
class _Published:
    """How far the ledger is published."""

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    ends: dict[ChainId, int] = field(default_factory=dict)
    """By chain: all earlier offsets are published. A repair may move the checkpoint back, but never this."""

    def has(self, chain: ChainId, outcome: Outcome) -> bool:
        """Whether the outcome's offset is published."""
        return offsets_of(outcome)[0] < self.ends.get(chain, 0)

    def add(self, chain: ChainId, outcome: Outcome) -> None:
        """Marks everything up to an outcome as published."""
        self.ends[chain] = offsets_of(outcome)[1]

    def to_json(self) -> dict[str, Any]:
        """Returns the state as a JSON object."""
        ends = [[chain.topic, chain.topic_id, chain.partition, end] for chain, end in sorted(self.ends.items())]
        return {"checkpoint": self.checkpoint.to_json(), "published": ends}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "_Published":
        """Parses what `to_json` wrote; raises KeyError, TypeError or ValueError for other data."""
        ends = {ChainId(topic, topic_id, number): int(end) for topic, topic_id, number, end in data["published"]}
        return cls(Checkpoint.from_json(data["checkpoint"]), ends)


@dataclass(slots=True)
class _SeenFrames:
    """The published frames of the latest days, so a frame that was announced twice is published once."""

    store: ObjectStore
    _days: OrderedDict[date, set[bytes]] = field(default_factory=OrderedDict)

    def add(self, frame: Frame, ends: Mapping[ChainId, int]) -> bool:
        """Adds a frame; returns False if it is published already.

        Args:
            ends: By chain: the offset before which everything was published before this frame.

        Raises:
            LedgerError: A segment of the frame's day cannot be read.
            TransientError: The store does not answer.
        """
        day = frame.day
        if day not in self._days:
            self._days[day] = self._read(day, ends)
            if len(self._days) > _CACHED_DAYS:
                self._days.popitem(last=False)
        self._days.move_to_end(day)
        seen = self._days[day]
        name = frame.frame_id.encode()
        if name in seen:
            return False
        seen.add(name)
        return True

    def _read(self, day: date, ends: Mapping[ChainId, int]) -> set[bytes]:
        seen = set()
        for segment in read_day(self.store, day, ends):
            end = ends.get(segment.header.chain, 0)
            for outcome in segment.outcomes():
                if isinstance(outcome, Frame) and outcome.day == day and offsets_of(outcome)[1] <= end:
                    seen.add(outcome.frame_id.encode())
        return seen


def _records_of(read: Batch, published: _Published, seen: _SeenFrames, wanted: Publication) -> list[Record]:
    records = []
    for chain, outcome in read.outcomes():
        if published.has(chain, outcome):
            continue
        if isinstance(outcome, Frame) and seen.add(outcome, published.ends):
            record = detections_record(wanted.topic, outcome, wanted.form, wanted.kind)
            records += [record] if record else []
        published.add(chain, outcome)
    return records


def detections_record(topic: str, frame: Frame, form: Form, kind: Kind | None) -> Record | None:
    """Returns the record of a frame; None if the form cannot express it.

    Args:
        kind: Which labels are kept; None for all. A frame without such labels has a record too.
    """
    if form is Form.CLASSIC:
        if frame.status is not FrameStatus.PROCESSED:
            return None  # not processed by a detector, which this form cannot express
        return record_of(topic, frame.source, frame.day.isoformat(), frame.frame_id, _classic_detections(frame, kind))
    document = replace(frame, weak_detections=()).to_json()
    if kind is not None:
        document["detections"] = [found for found in document["detections"] if found["label"] in kind.labels]
    return record_of(topic, frame.source, frame.day.isoformat(), frame.frame_id, document)


def _classic_detections(frame: Frame, kind: Kind | None) -> dict[str, Any]:
    detections = []
    for found in frame.detections:
        if found.box_xywh is None or (kind is not None and found.label not in kind.labels):
            continue
        x, y, width, height = found.box_xywh
        corners = [int(x), int(y), int(x + width), int(y + height)]
        detections.append({"label": found.label, "confidence": round(found.confidence, 6), "bbox": corners})
    named = classic_frame(frame.frame_id, frame.frame_number, frame.source, frame.timestamp)
    return {**named, "detections": detections}
