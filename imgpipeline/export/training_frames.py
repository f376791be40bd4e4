"""Frames with their boxes for training; annotations correct the boxes."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from imgpipeline.export.annotations import Annotation, Mistake, annotations_of
from imgpipeline.lake.query.frames import FramePlace, detections_in, list_frames
from imgpipeline.lake.query.wanted_frames import WantedFrames, rows_of_days
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.objectstore import ObjectStore

_AT_ONCE = 500
_Corrections = dict[tuple[date, str], list[Annotation]]


@dataclass(frozen=True, slots=True)
class TrainingBox:
    """One object in a frame."""

    label: str
    """Class name."""
    box_xywh: tuple[float, float, float, float]
    """x, y, width and height in pixels of the original image."""
    confidence: float | None
    """Confidence of the detection, 0 to 1; None for a box drawn by a person."""


@dataclass(frozen=True, slots=True)
class TrainingFrame:
    """One frame with a known size."""

    row: dict[str, Any]
    boxes: tuple[TrainingBox, ...]
    """The known objects: detections with a box, without those marked as wrong, plus annotated missing objects."""

    @property
    def image_path(self) -> str:
        """The announced path of its image; empty if it was imported without one."""
        return self.row["source_image_path"] or ""

    @property
    def file_name(self) -> str:
        """File name for its image: day and `frame_id`, with the suffix of the stored image."""
        suffix = PurePosixPath(self.image_path).suffix.lower()
        return f"{self.row['day']}_{self.row['frame_id']}{suffix or '.jpg'}"


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Frames selected for training by `open_training_set`; readable while the session is open."""

    lake: LakeSession
    wanted: WantedFrames
    is_marked: bool
    """Whether to select only frames with a valid annotation."""
    corrections: _Corrections
    """The valid annotations of each frame."""
    labels: tuple[str, ...]
    """All labels of the days, sorted: the classes."""

    def frames(self) -> Iterator[TrainingFrame]:
        """Yields the frames, latest first. Frames of unknown size, which were imported without image, are skipped."""
        place = None
        while True:
            rows = list_frames(self.lake, self.wanted, _AT_ONCE, after=place).table.to_pylist(maps_as_pydicts="strict")
            chosen = [row for row in rows if self._is_chosen(row)]
            boxes = detections_in(self.lake, [(row["day"], row["frame_id"]) for row in chosen])
            for row in chosen:
                yield TrainingFrame(row, tuple(self._boxes(row, boxes[row["day"], row["frame_id"]])))
            if len(rows) < _AT_ONCE:
                return
            place = FramePlace(rows[-1]["timestamp"], rows[-1]["day"], rows[-1]["frame_id"])

    def _is_chosen(self, row: dict[str, Any]) -> bool:
        is_sized = bool(row["image_width"] and row["image_height"])
        return is_sized and (not self.is_marked or (row["day"], row["frame_id"]) in self.corrections)

    def _boxes(self, row: dict[str, Any], found: Sequence[dict[str, Any]]) -> Iterator[TrainingBox]:
        said = self.corrections.get((row["day"], row["frame_id"]), [])
        wrong = [(one.label, one.box) for one in said if one.mistake is Mistake.WRONG]
        for box in found:
            xywh = (box["x"], box["y"], box["width"], box["height"])
            # Compared by label and box, because processing a day again can change the numbers of detections.
            if box["x"] is not None and (box["label"], xywh) not in wrong:
                yield TrainingBox(box["label"], xywh, box["confidence"])
        for one in said:
            if one.mistake is Mistake.MISSING and one.box is not None:
                yield TrainingBox(one.label, one.box, None)


def open_training_set(
    lake: LakeSession, store: ObjectStore, wanted: WantedFrames, days: Sequence[date], *, is_marked: bool
) -> TrainingSet:
    """Selects frames for training.

    Args:
        lake: The session.
        store: The store with the annotations.
        wanted: The filters of the viewer.
        days: The UTC days to search.
        is_marked: Whether to select only frames with a valid annotation.

    Raises:
        PermanentError: A stored object is damaged.
        TransientError: The store does not answer.
    """
    corrections: _Corrections = defaultdict(list)
    for day in days:
        for one in annotations_of(store, day):
            if one.withdrawn_by is None:
                corrections[one.day, one.frame_id].append(one)
    found = lake.query(f"SELECT DISTINCT label FROM detections WHERE {rows_of_days(wanted.span, wanted.local)}").rows  # noqa: S608 - dates
    labels = {label for (label,) in found} | {one.label for said in corrections.values() for one in said}
    return TrainingSet(lake, wanted, is_marked, dict(corrections), tuple(sorted(labels)))
