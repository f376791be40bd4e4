"""Runs several detectors on each image, each for its own labels: one model for cars, another for people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from imgpipeline.contracts.detection import Detection, DetectorUse
from imgpipeline.errors import ConfigurationError
from imgpipeline.vision.decode import DecodedImage, Pixels
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.model import NetworkInput


@dataclass(frozen=True, slots=True)
class Member:
    """One detector of a group."""

    detector: Detector
    """The loaded model."""
    labels: frozenset[str]
    """Labels that it detects; its other detections are dropped."""


class DetectorGroup(Detector):
    """Several detectors that are used like one.

    Each detector suppresses only its own boxes, and each detection has the number of the detector that found it.
    Attributes such as `model_name` describe the first detector; `uses` names all of them.

    Guarantees:
        `detect` may be called from several threads at once.
    """

    def __init__(self, group: Sequence[Member]) -> None:
        """Takes the detectors in order.

        Raises:
            ConfigurationError: A model does not have one of its labels, or two detectors share a label.
        """
        _check_labels(group)
        first = group[0].detector
        super().__init__(
            first.spec,
            first.model_sha256,
            first.backend,
            confidence_threshold=first.confidence_threshold,
            nms_threshold=first.nms_threshold,
            nms_per_class=first.nms_per_class,
            precision=first.precision,
            integer_boxes=first.integer_boxes,
        )
        self._group = tuple(group)

    @property
    def members(self) -> tuple[Detector, ...]:
        """The detectors."""
        return tuple(member.detector for member in self._group)

    @property
    def uses(self) -> tuple[DetectorUse, ...]:
        """What frames record about all of them."""
        return tuple(detector.use for detector in self.members)

    @property
    def network_input(self) -> NetworkInput:
        """The smallest size at which no network gets an enlarged image."""
        inputs = [detector.network_input for detector in self.members]
        return NetworkInput(max(one.width for one in inputs), max(one.height for one in inputs), "stretch")

    def detect_with_weak(
        self, picture: Pixels | DecodedImage, weak_above: float
    ) -> tuple[list[Detection], list[Detection]]:
        """Finds the objects with the labels of each detector; otherwise as `Detector.detect_with_weak`."""
        strong: list[Detection] = []
        weak: list[Detection] = []
        for number, member in enumerate(self._group):
            found = member.detector.detect_with_weak(picture, weak_above)
            for all_of_it, part in zip((strong, weak), found, strict=True):
                all_of_it += [replace(one, detector=number) for one in part if one.label in member.labels]
        return _strongest_first(strong), _strongest_first(weak)


def _strongest_first(detections: Iterable[Detection]) -> list[Detection]:
    return sorted(detections, key=lambda one: -one.confidence)


def _check_labels(group: Sequence[Member]) -> None:
    owner: dict[str, str] = {}
    for member in group:
        name, known = member.detector.model_name, member.detector.spec.labels
        for label in sorted(member.labels):
            if label not in known:
                shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
                raise ConfigurationError(
                    f"IMGPIPELINE_DETECTORS asks {name!r} for {label!r}, but its labels are {shown}.",
                    next_step="correct IMGPIPELINE_DETECTORS",
                )
            if label in owner:
                raise ConfigurationError(
                    f"Both {owner[label]!r} and {name!r} detect {label!r}, so each object would count twice.",
                    next_step="name the labels of each detector in IMGPIPELINE_DETECTORS",
                )
            owner[label] = name
