"""What a detector found in one picture.

Owns the value `Detection`. How detections are made belongs to `vision`.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Detection:
    """One object found in one picture."""

    label: str
    """Class name, as in the model's list of labels."""
    class_id: int
    """Index of the class in the model's list of labels, from 0."""
    confidence: float
    """Score in (threshold, 1]."""
    box_xywh: tuple[float, float, float, float]
    """Left, top, width, height in pixels of the original image (after its EXIF orientation was applied); the
    box lies inside the image."""

    def to_json(self) -> dict[str, Any]:
        """Returns the detection as the metadata contract writes it (`box` is x, y, w, h)."""
        return {
            "label": self.label,
            "class_id": self.class_id,
            "confidence": round(self.confidence, 6),
            "box": [round(v, 2) for v in self.box_xywh],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Detection":
        """Reads what `to_json` wrote."""
        x, y, w, h = (float(v) for v in data["box"])
        return cls(str(data["label"]), int(data["class_id"]), float(data["confidence"]), (x, y, w, h))
