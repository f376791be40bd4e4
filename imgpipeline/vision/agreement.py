"""How far two detectors agree on the same images: a report of one against the other as reference."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from imgpipeline.contracts.detection import Detection
from imgpipeline.vision.matching import match_boxes

Found = tuple[Sequence[Detection], Sequence[Detection]]
"""What the reference and the other detector found in one image."""


@dataclass(frozen=True, slots=True)
class Score:
    """How many boxes two detectors have in common."""

    reference: int
    """Boxes of the reference."""
    found: int
    """Boxes of the other detector."""
    matched: int
    """Pairs with one label and an IoU of 0.5 or more, one to one."""

    @property
    def precision(self) -> float:
        """Part of the other detector's boxes that the reference has too; 1 if it found nothing."""
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Part of the reference's boxes that were found; 1 if it has none."""
        return self.matched / self.reference if self.reference else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 if neither found anything."""
        boxes = self.reference + self.found
        return 2 * self.matched / boxes if boxes else 1.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """A report over images."""

    images: int
    """How many were compared."""
    total: Score
    """Over all labels."""
    labels: tuple[tuple[str, Score], ...]
    """Each label that either has found, the most frequent of the reference first."""
    mean_score_difference: float | None
    """Mean difference of the confidences of matched boxes, without sign; None if no box is matched."""
    largest_score_difference: float | None
    """Greatest such difference."""
    mean_iou: float | None
    """Mean overlap of matched boxes, 0.5 to 1."""


def measure_agreement(images: Iterable[Found]) -> Agreement:
    """Compares what two detectors found.

    Args:
        images: What the reference and the other one found in each image.
    """
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
