"""The truth of a simulated image, and the score of a detector that is compared with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from imgpipeline.contracts.detection import Detection

LABELS = ("person", "bicycle", "car", "dog")
"""The classes that the simulator draws, in the order of the demo model's class ids."""

MIN_AREA_PX2 = 144
MIN_VISIBLE = 0.3


@dataclass(frozen=True, slots=True)
class Truth:
    """One object that is visible, at least in part, in one picture."""

    box_xyxy: tuple[int, int, int, int]
    """Left, top, right, bottom in px around the visible pixels; right and bottom are exclusive. The box is inside the
    picture."""
    label: str
    track_id: int
    """Number of the object in all frames of a scene; 1..255."""
    visible: float
    """Visible pixels / all pixels of the object, 0..1, rounded to 4 digits. Nearer objects hide the others, or they are
    outside the picture."""

    @property
    def area_px2(self) -> int:
        """Area of the box in px²."""
        left, top, right, bottom = self.box_xyxy
        return (right - left) * (bottom - top)


def countable(truth: Truth) -> bool:
    """Returns whether a detector is expected to find this object.

    Returns:
        True if at least 30 % of it and a box of at least 144 px² are visible. An object that does not count is neither
        a miss if it is not found nor a false alarm if it is.
    """
    return truth.area_px2 >= MIN_AREA_PX2 and truth.visible >= MIN_VISIBLE


HIT_IOU = 0.5
"""Smallest IoU of a hit."""
IGNORED_IOU = 0.1
"""A box is not a false alarm if it overlaps an object of its class that does not count by more than this. The visible
rest of a nearly hidden object is too small for a fair IoU."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Score:
    """Numbers of objects; `+` adds the scores of several pictures."""

    hits: int = 0
    misses: int = 0
    false_alarms: int = 0
    """Found objects that do not exist, including second boxes on one object."""

    def __add__(self, other: "Score") -> "Score":
        return Score(self.hits + other.hits, self.misses + other.misses, self.false_alarms + other.false_alarms)

    @property
    def recall(self) -> float:
        """Hits / countable objects, 0..1; 1 if there was nothing to find."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 1.0

    @property
    def precision(self) -> float:
        """Hits / (hits + false alarms), 0..1; 1 if nothing was found."""
        return self.hits / (self.hits + self.false_alarms) if self.hits + self.false_alarms else 1.0


def match_detections(found: Sequence[Detection], truth: Sequence[Truth]) -> Score:
    """Compares the detections in one picture with its objects.

    The most confident detection chooses first. It takes the object of its label with the largest IoU, countable
    ones before others. Each object is found at most once, so a second box on it is a false alarm.
    """
    free = list(truth)
    hits = false_alarms = 0
    for detection in sorted(found, key=lambda d: -d.confidence):
        box = _to_xyxy(detection)
        rated = [(countable(t), iou_xyxy(box, t.box_xyxy), t) for t in free if t.label == detection.label]
        fitting = [r for r in rated if r[1] >= HIT_IOU]
        if fitting:
            counts, _, chosen = max(fitting, key=lambda r: r[:2])
            free.remove(chosen)
            hits += counts
        elif not any(iou > IGNORED_IOU for counts, iou, _ in rated if not counts):
            false_alarms += 1
    return Score(hits, sum(countable(t) for t in free), false_alarms)


def iou_xyxy(a: Box, b: Box) -> float:
    """Returns intersection over union of two boxes.

    Returns:
        0 (apart) to 1 (equal); 0 if both are empty.
    """
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def _to_xyxy(detection: Detection) -> Box:
    if detection.box_xywh is None:
        raise ValueError(f"{detection.label} has no box to compare")
    x, y, width, height = detection.box_xywh
    return x, y, x + width, y + height
