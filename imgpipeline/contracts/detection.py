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
    class_id: int | None
    """Index of the class in the model's list of labels, from 0; None where an import does not know it."""
    confidence: float
    """Score in (threshold, 1]."""
    box_xywh: tuple[float, float, float, float] | None
    """Left, top, width, height in pixels of the original image (after its EXIF orientation was applied); the
    box lies inside the image. None where an import does not know it."""

    def to_json(self) -> dict[str, Any]:
        """Returns the detection as the metadata contract writes it (`box` is x, y, w, h)."""
        return {
            "label": self.label,
            "class_id": self.class_id,
            "confidence": round(self.confidence, 6),
            "box": None if self.box_xywh is None else [round(v, 2) for v in self.box_xywh],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Detection":
        """Reads what `to_json` wrote."""
        class_id, box_xywh = data["class_id"], None
        if data["box"] is not None:
            x, y, w, h = (float(v) for v in data["box"])
            box_xywh = (x, y, w, h)
        return cls(str(data["label"]), None if class_id is None else int(class_id), float(data["confidence"]), box_xywh)
