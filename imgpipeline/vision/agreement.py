"""Matches the boxes of two detectors on the same images, and reports how far they agree.

Boxes are matched one to one, greedily: of all pairs with the same label in one image and enough overlap, the pair with
the greatest IoU comes first, then the next pair whose boxes are both free. After suppression boxes are sparse, so this
nearly always equals an optimal assignment.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from imgpipeline.contracts.detection import Detection

Overlap = tuple[str, str, int, int, float]
"""Frame, label, number of the box of A, of B, and their IoU."""
Found = tuple[Sequence[Detection], Sequence[Detection]]
"""Detections of the reference and of the other detector in one image."""
_LEAST_IOU: Final = 0.5
"""Two boxes match only if their IoU is at least this."""


def choose_pairs(overlaps: Iterable[Overlap]) -> Iterator[Overlap]:
    """Yields the pairs that match, given overlaps sorted by frame and descending IoU; of equal ones, the first wins."""
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
    """Returns the matching pairs of one image; detections without a box match nothing."""
    overlaps = [
        ("", one.label, a, b, iou)
        for a, one in enumerate(found_a)
        for b, other in enumerate(found_b)
        if one.label == other.label and (iou := iou_of(one, other)) >= _LEAST_IOU
    ]
    overlaps.sort(key=lambda overlap: (-overlap[4], overlap[2], overlap[3]))
    return list(choose_pairs(overlaps))


def iou_of(one: Detection, other: Detection) -> float:
    """Returns the intersection over union of two boxes, 0 to 1; 0 if there is no box."""
    if one.box_xywh is None or other.box_xywh is None:
        return 0.0
    (ax, ay, aw, ah), (bx, by, bw, bh) = one.box_xywh, other.box_xywh
    wide = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    high = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    union = aw * ah + bw * bh - wide * high
    return wide * high / union if union else 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """How many boxes two detectors have in common."""

    reference: int = 0
    """Boxes of the reference."""
    found: int = 0
    """Boxes of the other detector."""
    matched: int = 0
    """Pairs with the same label and an IoU of at least 0.5, one to one."""

    def __add__(self, other: "Score") -> "Score":
        return Score(self.reference + other.reference, self.found + other.found, self.matched + other.matched)

    @property
    def precision(self) -> float:
        """Share of the other detector's boxes that the reference also has; 1 if it found nothing."""
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of the reference's boxes that were found; 1 if it has none."""
        return self.matched / self.reference if self.reference else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 if neither found anything."""
        boxes = self.reference + self.found
        return 2 * self.matched / boxes if boxes else 1.0

    @property
    def cautious_f1(self) -> float:
        """F1 less its standard error (of a share, over the mean number of boxes): the fewer boxes, the lower."""
        boxes = (self.reference + self.found) / 2
        return self.f1 - math.sqrt(self.f1 * (1 - self.f1) / boxes) if boxes else 1.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two detectors agree over a set of images."""

    images: int
    total: Score
    labels: tuple[tuple[str, Score], ...]
    """Each label that either found, the reference's most frequent first."""
    mean_score_difference: float | None
    """Mean absolute difference of the confidences of matched boxes; None if no box is matched."""
    largest_score_difference: float | None
    """Largest such difference."""
    mean_iou: float | None
    """Mean overlap of matched boxes, 0.5 to 1."""


def measure_agreement(images: Iterable[Found]) -> Agreement:
    """Compares the detections of a reference and of another detector in each image."""
    reference, found, matched = Counter[str](), Counter[str](), Counter[str]()
    differences: list[float] = []
    overlaps: list[float] = []
    count = 0
    for ours, others in images:
        count += 1
        reference.update(one.label for one in ours)
        found.update(one.label for one in others)
        for _, label, a, b, iou in match_boxes(ours, others):
            matched[label] += 1
            differences.append(abs(ours[a].confidence - others[b].confidence))
            overlaps.append(iou)
    labels = sorted(reference.keys() | found.keys(), key=lambda label: (-reference[label], label))
    return Agreement(
        images=count,
        total=Score(reference.total(), found.total(), matched.total()),
        labels=tuple((label, Score(reference[label], found[label], matched[label])) for label in labels),
        mean_score_difference=fmean(differences) if differences else None,
        largest_score_difference=max(differences, default=None),
        mean_iou=fmean(overlaps) if overlaps else None,
    )
