"""Runs a user's network on one image in every plausible way, and recommends one.

The same outputs can often be read in several ways, and no file says how images were put into the network during
training. A wrong interpretation shows: boxes are tiny, cover the whole image, score low, or do not move with the object
when the image is mirrored.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import PermanentError
from imgpipeline.vision.agreement import match_boxes
from imgpipeline.vision.backends import open_backend
from imgpipeline.vision.decode import Pixels
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.model import NO_MEAN, NO_STD, ModelSpec, Preprocessing, Resize
from imgpipeline.vision.model_files import read_verified, runnable
from imgpipeline.vision.own_model import Layout, choose_layout, describe_own_model, plausible_layouts
from imgpipeline.vision.registry import label_sets
from imgpipeline.vision.signature import read_signature

_IMAGENET: Final = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet, which many networks are trained with."""
_VALUES: Final = ((1.0, NO_MEAN, NO_STD), (1 / 255, NO_MEAN, NO_STD), (1 / 255, *_IMAGENET))
_LEAST_SIDE_PX: Final = 4
_MOST_COVERED: Final = 0.95
"""Boxes that were read in a wrong way often cover the whole image."""
_CLEARLY_BETTER: Final = 1.5
"""How much more evidence than the usual way another one needs. With one image, a different colour order or placement
gains 20 % by chance; a wrong layout or a wrong range of values loses most of the evidence."""


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to use a network, and what it finds."""

    layout: Layout
    """How its output is read."""
    preprocessing: Preprocessing
    """How the image is put into it."""
    is_usual: bool
    """Whether networks of this layout usually get their images in this way."""
    detections: tuple[Detection, ...]
    """The most confident first; boxes in pixels of the image."""
    evidence: float
    """Sum of the confidences of boxes that the network also finds at the mirrored place in the mirrored image: same
    label, IoU at least 0.5, the lower confidence counts. Tiny boxes and those as large as the image do not count."""


def interpret(
    path: Path, pixels: Pixels, labels: Sequence[str] | Path | None = None, *, threshold: float = 0.25
) -> list[Interpretation]:
    """Uses a network in every plausible way.

    Args:
        path: An ONNX file.
        pixels: uint8 [height, width, 3], BGR.
        labels: Class names or their file; None: those in the file's metadata, else COCO's.
        threshold: Detections score strictly above it.

    Returns:
        The recommended way first, then the others by descending evidence.

    Raises:
        ConfigurationError: The file is not a model of a known kind, or the labels do not fit it.
        PermanentError: The network cannot be run.
    """
    signature = read_signature(path)
    choose_layout(signature)
    layouts = plausible_layouts(signature)
    found: list[Interpretation] = []
    for layout in layouts:
        spec = describe_own_model(path, layout.decoder, labels, label_sets())
        found += _run(layout, spec, pixels, threshold)
    found.sort(key=lambda one: (-one.evidence, not one.is_usual, layouts.index(one.layout)))
    best, usual = found[0], next(one for one in found if one.is_usual)
    if best.evidence <= usual.evidence * _CLEARLY_BETTER:
        best = usual
    return [best, *(one for one in found if one is not best)]


def _run(layout: Layout, spec: ModelSpec, pixels: Pixels, threshold: float) -> Iterator[Interpretation]:
    content, sha256 = read_verified(spec)
    backend = open_backend("onnxruntime", runnable(spec, content))
    usual = spec.preprocessing
    for rules in dict.fromkeys((usual, *_ways(usual))):
        detector = Detector(replace(spec, preprocessing=rules), sha256, backend, confidence_threshold=threshold)
        detections = _detect(detector, pixels)
        yield Interpretation(layout, rules, rules == usual, detections, _evidence(detector, detections, pixels))


def _ways(usual: Preprocessing) -> Iterator[Preprocessing]:
    resizes: tuple[Resize, ...] = ("stretch", "letterbox", "letterbox-centred")
    orders: tuple[Literal["RGB", "BGR"], ...] = ("RGB", "BGR")
    for resize, channels, (scale, mean, std) in itertools.product(resizes, orders, _VALUES):
        yield replace(usual, resize=resize, channels=channels, scale=scale, mean=mean, std=std)


def _detect(detector: Detector, pixels: Pixels) -> tuple[Detection, ...]:
    try:
        with np.errstate(all="ignore"):  # sizes overflow if they are read in a wrong way
            return tuple(detector.detect(pixels))
    except PermanentError:  # NaN, or classes that do not exist: this way is wrong
        return ()


def _evidence(detector: Detector, detections: Sequence[Detection], pixels: Pixels) -> float:
    found = [one for one in detections if _may_be_real(one, pixels)]
    mirrored = [_mirror(one, pixels.shape[1]) for one in _detect(detector, np.ascontiguousarray(pixels[:, ::-1]))]
    pairs = match_boxes(found, mirrored)
    return sum(min(found[ours].confidence, mirrored[theirs].confidence) for _, _, ours, theirs, _ in pairs)


def _mirror(detection: Detection, picture_width: int) -> Detection:
    if detection.box_xywh is None:
        return detection
    left, top, width, height = detection.box_xywh
    return replace(detection, box_xywh=(picture_width - left - width, top, width, height))


def _may_be_real(detection: Detection, pixels: Pixels) -> bool:
    if detection.box_xywh is None:
        return False
    width, height = detection.box_xywh[2:]
    picture_height, picture_width = pixels.shape[:2]
    covers = width * height / (picture_width * picture_height)
    return min(width, height) >= _LEAST_SIDE_PX and covers < _MOST_COVERED
