"""Detections, the detectors that found them, and the label groups of classic detectors and trackers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

DecoderName = Literal["yolox", "yolox-decoded", "yolov4", "yolov5", "yolov8", "end-to-end", "detr"]
"""Layout of a network's outputs; `vision/decoders` has a decoder for each."""


@dataclass(frozen=True, slots=True)
class DetectorUse:
    """A detector that processed a frame."""

    model_name: str
    model_sha256: str
    """SHA-256 of the model file, 64 hexadecimal digits."""
    precision: str | None = None
    """Number format that the model computed in, such as `bf16` or `int8`; None for 32-bit floats."""
    confidence_threshold: float | None = None
    """Detections have a confidence above this, in [0, 1]."""
    nms_threshold: float | None = None
    """Overlap (IoU) above which the weaker of two boxes was dropped, in [0, 1]."""

    def to_json(self) -> dict[str, Any]:
        """Returns the detector in the form of the metadata contract."""
        return {
            "model": self.model_name,
            "sha256": self.model_sha256,
            "precision": self.precision,
            "confidence_threshold": self.confidence_threshold,
            "nms_threshold": self.nms_threshold,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "DetectorUse":
        """Reads the output of `to_json`."""
        return cls(
            data["model"], data["sha256"], data["precision"], data["confidence_threshold"], data["nms_threshold"]
        )


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found in one image."""

    label: str
    """Class name, from the model's list of labels."""
    class_id: int | None
    """Index of the class in the model's list of labels, from 0; None if an import does not know it."""
    confidence: float
    """Score in (threshold, 1]."""
    box_xywh: tuple[float, float, float, float] | None
    """Left, top, width, height in pixels of the original image (after its EXIF orientation was applied); the
    box lies inside the image. None if an import does not know it."""
    detector: int | None = None
    """Index in the frame's `detectors`, from 0; None if the frame names only its model."""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Detection":
        """Returns the detection of a row of the table `detections`."""
        box_xywh = None if row["x"] is None else (row["x"], row["y"], row["width"], row["height"])
        return cls(row["label"], row["class_id"], row["confidence"], box_xywh)

    def to_json(self) -> dict[str, Any]:
        """Returns the detection in the form of the metadata contract (`box` is x, y, w, h)."""
        return {
            "label": self.label,
            "class_id": self.class_id,
            "confidence": round(self.confidence, 6),
            "box": None if self.box_xywh is None else [round(v, 2) for v in self.box_xywh],
            **({} if self.detector is None else {"detector": self.detector}),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Detection":
        """Reads the output of `to_json`."""
        class_id, box_xywh = data["class_id"], None
        if data["box"] is not None:
            x, y, w, h = (float(v) for v in data["box"])
            box_xywh = (x, y, w, h)
        return cls(
            str(data["label"]),
            None if class_id is None else int(class_id),
            float(data["confidence"]),
            box_xywh,
            data.get("detector"),
        )


class Kind(StrEnum):
    """A group of labels, as classic detectors and trackers use them."""

    CARS = "cars"
    PEOPLE = "people"

    @property
    def labels(self) -> Sequence[str]:
        """The labels of the group."""
        return ("car", "van", "truck") if self is Kind.CARS else ("person", "pedestrian", "people")
