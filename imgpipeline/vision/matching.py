"""Matches the boxes of two detectors, one to one.

Of all pairs with one label in one image and enough overlap, the pair with the greatest IoU comes first, then the next
pair whose boxes are both free, and so on (greedy). After suppression boxes are sparse, so this nearly always equals an
optimal assignment.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from imgpipeline.contracts.detection import Detection

Overlap = tuple[str, str, int, int, float]
"""Frame, label, number of the box of A, of B, and their IoU."""
LEAST_IOU: Final = 0.5
"""Two boxes match only if they overlap by this much."""


def choose_pairs(overlaps: Iterable[Overlap]) -> Iterator[Overlap]:
    """Yields the pairs that belong together.

    Args:
        overlaps: Sorted by frame, then by IoU, the greatest first; ties as they shall be decided.
    """
    frame_id = None
    taken_a: set[int] = set()
    taken_b: set[int] = set()
    for overlap in overlaps:
        if overlap[0] != frame_id:
            frame_id = overlap[0]
            taken_a, taken_b = set(), set()
        _, _, a, b, _ = overlap
        if a not in taken_a and b not in taken_b:
            taken_a.add(a)
            taken_b.add(b)
            yield overlap


def match_boxes(found_a: Sequence[Detection], found_b: Sequence[Detection]) -> list[Overlap]:
    """Returns the pairs of one image; detections without a box match nothing."""
    overlaps = [
        ("", one.label, a, b, iou)
        for a, one in enumerate(found_a)
        for b, other in enumerate(found_b)
        if one.label == other.label and (iou := _iou(one, other)) >= LEAST_IOU
    ]
    overlaps.sort(key=lambda overlap: (-overlap[4], overlap[2], overlap[3]))
    return list(choose_pairs(overlaps))


def _iou(one: Detection, other: Detection) -> float:
    if one.box_xywh is None or other.box_xywh is None:
        return 0.0
    (ax, ay, aw, ah), (bx, by, bw, bh) = one.box_xywh, other.box_xywh
    wide = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    high = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    union = aw * ah + bw * bh - wide * high
    return wide * high / union if union else 0.0
