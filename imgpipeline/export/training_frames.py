"""Frames with their boxes as training needs them: what people said of a frame corrects its boxes."""

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
    """As the detector gave it, 0 to 1; None for a box that a person has drawn."""


@dataclass(frozen=True, slots=True)
class TrainingFrame:
    """One frame with a known size."""

    row: dict[str, Any]
    """Its row of `frames`."""
    boxes: tuple[TrainingBox, ...]
    """All objects that are known in it: detections with a box, without wrong ones, and what was missing."""

    @property
    def image_path(self) -> str:
        """The announced path of its image; empty if it was imported without one."""
        return self.row["source_image_path"] or ""

    @property
    def file_name(self) -> str:
        """A name for its image: day and `frame_id`, with the suffix of the stored image."""
        suffix = PurePosixPath(self.image_path).suffix.lower()
        return f"{self.row['day']}_{self.row['frame_id']}{suffix or '.jpg'}"


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Frames that were chosen for training. Made by `open_training_set`; read it while its session is open."""

    lake: LakeSession
    """The session."""
    wanted: WantedFrames
    """Which frames."""
    is_marked: bool
    """Whether only frames are wanted of which somebody said something that stands."""
    corrections: _Corrections
    """What people said of each frame and did not take back."""
    labels: tuple[str, ...]
    """All labels of the days, sorted: the classes."""

    def frames(self) -> Iterator[TrainingFrame]:
        """Yields the frames, the latest first. One without a size, imported without its image, is left out."""
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
            # By label and place: a detection's number may be another one since the day was detected again.
            if box["x"] is not None and (box["label"], xywh) not in wrong:
                yield TrainingBox(box["label"], xywh, box["confidence"])
        for one in said:
            if one.mistake is Mistake.MISSING and one.box is not None:
                yield TrainingBox(one.label, one.box, None)


def open_training_set(
    lake: LakeSession, store: ObjectStore, wanted: WantedFrames, days: Sequence[date], *, is_marked: bool
) -> TrainingSet:
    """Chooses frames.

    Args:
        lake: The session.
        store: Holds what people said.
        wanted: Which frames, by the filters of the viewer.
        days: The UTC days of its span.
        is_marked: Only those of which somebody said something.

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
