"""Turns CSV rows into frames with one detection each.

Only its number identifies a row, so the `frame_id` is derived from the source, the time, the import's name and the
number.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imgpipeline.compat.imports.fields import Box, box_of, confidence_of, text_of, time_of
from imgpipeline.compat.imports.rows import Known, Row
from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.outcomes import Frame, make_frame_id
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import ConfigurationError

_VERSION = 1
_UNKNOWN: Mapping[str, Any] = {
    "processing_timestamp": None,
    "image_width": None,
    "image_height": None,
    "size_bytes": None,
    "brightness": None,
    "sharpness": None,
    "model_used": "",
    "model_sha256": "",
    "confidence_threshold": None,
    "nms_threshold": None,
    "orientation": None,
}
"""Fields of a frame that are not in a row of detections."""


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The columns of a CSV file."""

    timestamp: str = "timestamp"
    """The frame's time."""
    label: str = "detected_label"
    confidence: str = "confidence"
    """The confidence, 0 to 1."""
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
            chain: The import's chain.
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
            **_UNKNOWN,
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
    raise ConfigurationError(
        f"The column {name!r} {problem}; the file has {', '.join(map(repr, columns))}.",
        next_step=f"name the column with {option}, and the character between columns with --delimiter",
    )
