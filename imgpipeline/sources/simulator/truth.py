"""The truth of a simulated image: its objects, their labels, and which of them a detector is expected to find."""

from dataclasses import dataclass

LABELS = ("person", "bicycle", "car", "dog")
"""The classes that the simulator draws, in the order of the demo model's class ids."""

MIN_AREA_PX2 = 144
MIN_VISIBLE = 0.3


@dataclass(frozen=True, slots=True)
class Truth:
    """One object that can be seen, at least in part, in one picture."""

    box_xyxy: tuple[int, int, int, int]
    """Left, top, right, bottom in px around the visible pixels; right and bottom are exclusive; the box lies
    inside the picture."""
    label: str
    """One of `LABELS`."""
    track_id: int
    """The same object has the same number in all frames of a scene; 1..255."""
    visible: float
    """Visible pixels / all pixels of the object, 0..1, rounded to 4 digits; the rest is hidden by nearer
    objects or outside the picture."""

    @property
    def area_px2(self) -> int:
        """Area of the box in px²."""
        left, top, right, bottom = self.box_xyxy
        return (right - left) * (bottom - top)


def countable(truth: Truth) -> bool:
    """Says whether a detector may be asked for this object.

    Args:
        truth: An object in a picture.

    Returns:
        True if at least 30 % of it and a box of at least 144 px² can be seen. Anything less is neither a
        miss when it is not found nor a false alarm when it is.
    """
    return truth.area_px2 >= MIN_AREA_PX2 and truth.visible >= MIN_VISIBLE
