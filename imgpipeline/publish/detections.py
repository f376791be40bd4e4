"""Publishes the detections of each frame, by following the ledger.

Each batch of the ledger is one Kafka transaction with the checkpoint after it. A frame is published when the ledger
gets its first outcome; outcomes that a repair writes for published offsets are not published.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.messages import classic_frame
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.outcomes import Frame, FrameStatus, Outcome, offsets_of
from imgpipeline.ledger.checkpoint import Checkpoint
from imgpipeline.ledger.days import read_day
from imgpipeline.ledger.follow import follow
from imgpipeline.objectstore import ObjectStore
from imgpipeline.publish.csv_files import publisher_of
from imgpipeline.publish.transactions import (
    Form,
    Publication,
    ResultBatch,
    Run,
    record_of,
)
from imgpipeline.stream.send import Record

_BATCH_SEGMENTS = 64
_CACHED_DAYS = 4


def publish_detections(run: Run, wanted: Publication) -> int:
    """Publishes the detections of each frame after the last checkpoint; result and errors as `publish_frames`."""
    return publish_frames(run, wanted, "detections", lambda frame: detections_records(wanted, frame))


def publish_frames(
    run: Run,
    wanted: Publication,
    result: str,
    records_of: Callable[[Frame], list[Record]],
    *,
    on_earlier: Callable[[Frame], None] = lambda _: None,
    on_notice: Callable[[Notice], None] = lambda _: None,
) -> int:
    """Publishes something about each frame that the ledger has after the last checkpoint, and returns how much.

    Args:
        result: The kind of result.
        records_of: Returns the records of a frame; called once for each frame, in the order of the ledger.
        on_earlier: Called with the frames that earlier calls have published, of each day with new frames.
        on_notice: Called with each new notice.

    Raises:
        LostCheckpointError: The checkpoint belongs to another ledger.
        LedgerError: A segment cannot be read; everything before it is published.
    """
    publisher = publisher_of(wanted, result, _Published.from_json, _Published)
    seen = _SeenFrames(run.store, on_earlier)

    def batches(published: _Published) -> Iterator[ResultBatch]:
        for read in follow(run.store, published.checkpoint, batch_segments=_BATCH_SEGMENTS):
            records: list[Record] = []
            for chain, outcome in read.outcomes():
                if published.has(chain, outcome):
                    continue
                if isinstance(outcome, Frame) and seen.add(outcome, published.ends):
                    records += records_of(outcome)
                elif isinstance(outcome, Notice):
                    on_notice(outcome)
                published.add(chain, outcome)
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
    on_earlier: Callable[[Frame], None]
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
                    self.on_earlier(outcome)
        return seen


def detections_records(wanted: Publication, frame: Frame) -> list[Record]:
    """Returns the record of a frame; none if the form cannot express it. Frames without wanted labels have one too."""
    topic, kind = wanted.topic, wanted.kind
    if wanted.form is Form.CLASSIC:
        if frame.status is not FrameStatus.PROCESSED:
            return []  # not processed by a detector, which this form cannot express
        document = _classic_detections(frame, kind)
        return [record_of(topic, frame.source, frame.day.isoformat(), frame.frame_id, document)]
    document = replace(frame, weak_detections=()).to_json()
    if kind is not None:
        document["detections"] = [found for found in document["detections"] if found["label"] in kind.labels]
    return [record_of(topic, frame.source, frame.day.isoformat(), frame.frame_id, document)]


def _classic_detections(frame: Frame, kind: Kind | None) -> dict[str, Any]:
    detections = []
    for found in frame.detections:
        if found.box_xywh is None or (kind is not None and found.label not in kind.labels):
            continue
        x, y, width, height = found.box_xywh
        corners = [int(x), int(y), int(x + width), int(y + height)]
        detections.append({"label": found.label, "confidence": round(found.confidence, 6), "bbox": corners})
    named = classic_frame(frame.source, frame.timestamp, frame.frame_number, frame.frame_id, frame.attributes)
    return {**named, "detections": detections}
