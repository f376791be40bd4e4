"""The truth of a simulated image, and the score of a detector that is compared with it."""

from collections.abc import Sequence
from dataclasses import dataclass

from imgpipeline.contracts.detection import Detection
from imgpipeline.vision.agreement import Score, iou_of, match_boxes

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
    def box_xywh(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in px."""
        left, top, right, bottom = self.box_xyxy
        return left, top, right - left, bottom - top

    def as_detection(self) -> Detection:
        """Returns the object as a detector that errs in nothing would report it."""
        return Detection(self.label, LABELS.index(self.label), 1.0, self.box_xywh)

    @property
    def area_px2(self) -> int:
        """Area of the box in px²."""
        return self.box_xywh[2] * self.box_xywh[3]


def countable(truth: Truth) -> bool:
    """Returns whether a detector is expected to find this object.

    Returns:
        True if at least 30 % of it and a box of at least 144 px² are visible. An object that does not count is neither
        a miss if it is not found nor a false alarm if it is.
    """
    return truth.area_px2 >= MIN_AREA_PX2 and truth.visible >= MIN_VISIBLE


IGNORED_IOU = 0.1
"""A box is not a false alarm if it overlaps an object of its class that does not count by more than this. The visible
rest of a nearly hidden object is too small for a fair IoU."""


def score_of(found: Sequence[Detection], truth: Sequence[Truth]) -> Score:
    """Compares the detections in one picture with its objects.

    Each object is found at most once, so a second box on it is a false alarm.

    Returns:
        The score against the countable objects. `found` leaves out boxes on objects that do not count.
    """
    expected = [thing.as_detection() for thing in truth if countable(thing)]
    ignored = [thing.as_detection() for thing in truth if not countable(thing)]
    matched = match_boxes(expected, found)
    hits = {number for _, _, _, number, _ in matched}
    false_alarms = [
        one
        for number, one in enumerate(found)
        if number not in hits
        and not any(iou_of(one, thing) > IGNORED_IOU for thing in ignored if thing.label == one.label)
    ]
    return Score(len(expected), len(hits) + len(false_alarms), len(hits))
