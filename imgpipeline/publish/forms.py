"""The published records: the project's own documents, or the messages of classic detectors and trackers."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from imgpipeline.contracts.detection import Kind
from imgpipeline.contracts.outcomes import Frame, FrameStatus
from imgpipeline.publish.run import Form
from imgpipeline.stream.send import Record


def detections_record(topic: str, frame: Frame, form: Form, kind: Kind | None) -> Record | None:
    """Returns the record of a frame; None if the form cannot express it.

    Args:
        topic: Where the record is published.
        frame: The frame with its detections.
        form: Format of the record.
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


def record_of(topic: str, source: str, day: str, name: str, document: Mapping[str, Any]) -> Record:
    """Returns a record with the source as its key, and the headers `day` and `id`, which together identify it."""
    value = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    headers = (("day", day.encode()), ("id", name.encode()))
    return Record(topic, source.encode("utf-8", "surrogatepass"), value, headers)


def classic_frame(frame_id: str, number: int | None, source: str, timestamp: datetime) -> dict[str, Any]:
    """Returns the fields that identify a frame in classic messages."""
    return {
        "frame_id": frame_id if number is None else f"frame_{number:05d}",
        "video_id": source,
        "timestamp": timestamp.astimezone(UTC).isoformat(),
    }


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
