"""Turns the rows of an import into frames: CSV rows of detections, and JSON documents of classic consumers.

In a document, a field may have several names. Missing fields stay unknown. Fields that are not part of the metadata
contract are kept in the frame's attributes.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from imgpipeline.compat.imports.rows import (
    Box,
    Known,
    Row,
    bad_row,
    box_of,
    check_attributes,
    confidence_of,
    count_of,
    large_count_of,
    number_of,
    size_of,
    text_of,
    time_of,
)
from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.message_fields import as_text
from imgpipeline.contracts.outcomes import Frame, FrameStatus, make_frame_id
from imgpipeline.contracts.times import find_timezone
from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import ConfigurationError

_VERSION = 1
_NUMBERS = re.compile(r"[-+.,0-9eE]+")
_FRAME_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
TIMES = ("timestamp", "processing_timestamp", "processed_at")
PROCESSED = ("processing_timestamp", "processed_at")
PATHS = ("source_image_path", "image_path")
BUCKETS = ("bucket_name", "bucket")
KEYS = ("image_key", "key", "object_key")
SOURCES = ("source", "camera_id", "camera", "video_id")
DETECTIONS = ("detections", "detected_objects", "objects", "predictions")
LABELS = ("label", "detected_label", "class", "class_name", "name")
CONFIDENCES = ("confidence", "score", "probability")
BOXES = ("box", "bbox", "bounding_box")
_OWN = frozenset(
    {
        *TIMES, *PATHS, *BUCKETS, *KEYS, *SOURCES, *DETECTIONS, "detected_label", "frame_id", "frame_number",
        "image_width", "width", "image_height", "height", "size_bytes", "image_size_bytes", "brightness", "sharpness",
        "model_used", "model_name", "model", "model_sha256", "confidence_threshold", "nms_threshold", "orientation",
        "status", "gate_reason", "attributes", "replay_of", "source_kafka_topic", "source_kafka_partition",
        "source_kafka_offset",
    }
)  # fmt: skip
_KEPT = ("source_kafka_topic", "source_kafka_partition", "source_kafka_offset", "replay_of")


def _first(data: dict[str, Any], names: Sequence[str]) -> tuple[str, Any]:
    """Returns name and value of the first field that is not empty, or the first name and None if all are empty."""
    for name in names:
        value = data.get(name)
        if value is not None and value != "":
            return name, value
    return names[0], None


class MetadataDocuments:
    """Turns the documents of one import into frames."""

    def __init__(self, chain: ChainId, source: str, labels: Sequence[str] = (), timezone: str = "UTC") -> None:
        """Takes the values that documents do not contain.

        Args:
            source: Source of documents that do not name one.
            labels: Labels by class number, for detections with only a `class_id`.
            timezone: IANA name of the time zone of times without an offset.
        """
        self._chain = chain
        self._source = text_of("--source", source)
        self._labels = labels
        self._zone = find_timezone(timezone)
        self.recipe = json.dumps(["metadata", _VERSION, self._source, list(labels), timezone])

    def frame_of(self, row: Row, offset: int, known: Known) -> Frame:
        """Returns the frame of a document; raises BadInputError if the document is invalid."""
        data: dict[str, Any] = row.fields
        path = _path_in(data)
        known.image_path = path or None
        source = known.source = self._source_of(data, path)
        time_name, time_value = _first(data, TIMES)
        time = known.timestamp = time_of(time_name, time_value, self._zone)
        processed_name, processed = _first(data, PROCESSED)
        number = _number_in(data)
        status, gate_reason = _status_in(data)
        return Frame(
            frame_id=self._frame_id(data, source, time, number, path, offset),
            source=source,
            source_image_path=path,
            frame_number=number,
            timestamp=time,
            topic=self._chain.topic,
            partition=self._chain.partition,
            offset=offset,
            processing_timestamp=None if processed is None else time_of(processed_name, processed, self._zone),
            image_width=_optional(count_of, data, ("image_width", "width")),
            image_height=_optional(count_of, data, ("image_height", "height")),
            size_bytes=_optional(size_of, data, ("size_bytes", "image_size_bytes")),
            brightness=_optional(number_of, data, ("brightness",)),
            sharpness=_optional(number_of, data, ("sharpness",)),
            model_used=_optional(text_of, data, ("model_used", "model_name", "model")) or "",
            model_sha256=_optional(text_of, data, ("model_sha256",)) or "",
            confidence_threshold=_optional(confidence_of, data, ("confidence_threshold",)),
            nms_threshold=_optional(confidence_of, data, ("nms_threshold",)),
            orientation=_optional(count_of, data, ("orientation",)),
            status=status,
            gate_reason=gate_reason,
            attributes=_attributes(data, row.place),
            detections=self._detections(data),
        )

    def _source_of(self, data: dict[str, Any], path: str) -> str:
        name, value = _first(data, SOURCES)
        if value is not None:
            return text_of(name, as_text(value))
        folder = path.removeprefix("s3://").rpartition("/")[0].rpartition("/")
        # In `s3://bucket/image.jpg` the folder would be the bucket.
        return text_of("source", folder[2] if folder[2] and (folder[0] or "://" not in path) else self._source)

    def _frame_id(
        self, data: dict[str, Any], source: str, time: datetime, number: int | None, path: str, offset: int
    ) -> str:
        given = data.get("frame_id")
        if isinstance(given, str) and _FRAME_ID.fullmatch(given):
            return given
        if number is not None:
            return make_frame_id(source, time, number)
        return make_frame_id(source, time, path or f"{self._chain.topic}/{offset}")

    def _detections(self, data: dict[str, Any]) -> tuple[Detection, ...]:
        name = next((name for name in DETECTIONS if name in data), None)
        if name is None and "detected_label" in data:
            return (self._detection("", data),)
        found = data.get(name or DETECTIONS[0])
        if not isinstance(found, list):
            raise bad_row(name or DETECTIONS[0], found, "a list")
        made = [self._detection(f"{name}[{place}]", value) for place, value in enumerate(found)]
        return tuple(sorted(made, key=lambda detection: -detection.confidence))

    def _detection(self, where: str, data: object) -> Detection:
        if not isinstance(data, dict):
            raise bad_row(where, data, "an object with label, confidence and box")
        label_name, label = _first(data, LABELS)
        class_id = _optional(count_of, data, ("class_id",))
        if label is None and class_id is not None and class_id < len(self._labels):
            label = self._labels[class_id]
        confidence_name, confidence = _first(data, CONFIDENCES)
        box_name, box = _first(data, BOXES)
        prefix = f"{where}." if where else ""
        return Detection(
            text_of(prefix + label_name, label),
            class_id,
            confidence_of(prefix + confidence_name, confidence),
            None if box is None else box_of(prefix + box_name, box),
        )


def _optional(read: Any, data: dict[str, Any], names: Sequence[str]) -> Any:
    name, value = _first(data, names)
    return None if value is None else read(name, value)


def _path_in(data: dict[str, Any]) -> str:
    name, value = _first(data, PATHS)
    if value is not None:
        return as_s3_url(text_of(name, value))
    bucket_name, bucket = _first(data, BUCKETS)
    key_name, key = _first(data, KEYS)
    if bucket is None or key is None:
        return ""
    return text_of("image_path", f"s3://{text_of(bucket_name, bucket)}/{text_of(key_name, key).lstrip('/')}")


def _number_in(data: dict[str, Any]) -> int | None:
    name, value = _first(data, ("frame_number",))
    if value is not None:
        return large_count_of(name, value)
    other = data.get("frame_id")  # the number of the frame in its video, in many consumers
    if isinstance(other, int) and not isinstance(other, bool):
        return large_count_of("frame_id", other)
    return int(other) if isinstance(other, str) and re.fullmatch(r"[0-9]{1,18}", other, re.ASCII) else None


def _status_in(data: dict[str, Any]) -> tuple[FrameStatus, str | None]:
    """Returns whether the frame was gated, as in documents of this project; other values of `status` are ignored."""
    if data.get("status") != FrameStatus.GATED.value:
        return FrameStatus.PROCESSED, None
    return FrameStatus.GATED, _optional(text_of, data, ("gate_reason",)) or "unknown"


def _attributes(data: dict[str, Any], place: str) -> dict[str, Any]:
    given = data.get("attributes")
    others = {name: value for name, value in data.items() if name not in _OWN}
    kept = {name: data[name] for name in _KEPT if data.get(name) is not None}
    if isinstance(given, dict):
        others |= given
    elif given is not None:
        others["attributes"] = given
    others |= kept
    if others:
        check_attributes(others)
    return {**others, "imported_from": place}


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The columns of a CSV file."""

    timestamp: str = "timestamp"
    label: str = "detected_label"
    confidence: str = "confidence"
    source: str | None = None
    """The camera, video or folder; None if all rows have the same source."""
    frame: str | None = None
    """The frame's number, or the path of its image; None if unknown."""
    box: tuple[str, str, str, str] | None = None
    """Left, top, width and height in pixels; None if unknown."""


class DetectionRows:
    """Turns the rows of one CSV file into frames."""

    def __init__(
        self, columns: tuple[str, ...], names: ColumnNames, chain: ChainId, source: str, timezone: str = "UTC"
    ) -> None:
        """Finds the columns.

        Args:
            columns: Names of the columns as the header has them.
            names: The columns and their contents.
            source: Source of the rows without a source column.
            timezone: IANA name of the time zone of times without an offset.

        Raises:
            ConfigurationError: A column is missing or exists twice.
        """
        self._chain = chain
        self._source = text_of("--source", source)
        self._zone = find_timezone(timezone)
        self._timestamp = _find(columns, names.timestamp, "--timestamp-column")
        self._label = _find(columns, names.label, "--label-column")
        self._confidence = _find(columns, names.confidence, "--confidence-column")
        self._source_column = _find(columns, names.source, "--source-column") if names.source else None
        self._frame = _find(columns, names.frame, "--frame-column") if names.frame else None
        self._box = [_find(columns, name, "--box-columns") for name in names.box] if names.box else None
        known = {self._timestamp, self._label, self._confidence, self._source_column, self._frame, *(self._box or ())}
        self._others = [(place, name) for place, name in enumerate(columns) if name and place not in known]
        self.recipe = json.dumps(["detections", _VERSION, columns, asdict(names), self._source, timezone])

    def frame_of(self, row: Row, offset: int, known: Known) -> Frame:
        """Returns the frame of a row, with its one detection; raises BadInputError if the row is invalid."""
        fields: list[str] = row.fields
        source = self._source
        if self._source_column is not None:
            source = text_of("source", fields[self._source_column])
        known.source = source
        path, number = self._frame_in(fields)
        known.image_path = path or None
        time = known.timestamp = time_of("timestamp", fields[self._timestamp], self._zone)
        found = Detection(
            text_of("label", fields[self._label]),
            None,
            confidence_of("confidence", fields[self._confidence]),
            self._box_in(fields),
        )
        attributes = {"imported_from": row.place}
        for place, name in self._others:
            if fields[place]:
                attributes[name] = fields[place]
        return Frame(
            frame_id=make_frame_id(source, time, f"{self._chain.topic}/{offset}"),
            source=source,
            source_image_path=path,
            frame_number=number,
            timestamp=time,
            topic=self._chain.topic,
            partition=self._chain.partition,
            offset=offset,
            orientation=None,
            attributes=attributes,
            detections=(found,),
        )

    def _frame_in(self, fields: list[str]) -> tuple[str, int | None]:
        text = fields[self._frame].strip() if self._frame is not None else ""
        if not text:
            return "", None
        if text.isdecimal() and text.isascii() and len(text) < 19:
            return "", int(text)
        return text_of("frame", text), None

    def _box_in(self, fields: list[str]) -> Box | None:
        if self._box is None or not any(fields[place].strip() for place in self._box):
            return None
        return box_of("box", [fields[place] for place in self._box])


def _find(columns: tuple[str, ...], name: str, option: str) -> int:
    if columns.count(name) == 1:
        return columns.index(name)
    problem = "exists twice" if name in columns else "is missing"
    step = f"name the column with {option}, and the character between columns with --delimiter"
    if len(columns) > 6 and _NUMBERS.fullmatch(",".join(columns)):
        step = "if it is a det.txt or gt.txt of the MOT Challenge, give --format mot"
    raise ConfigurationError(
        f"The column {name!r} {problem}; the file has {', '.join(map(repr, columns))}.",
        next_step=step,
    )
