"""What reduced decoding of large JPEGs changes: detections matched box by box, and the time of a picture.

Real photos and frames of real videos, enlarged to common camera sizes: the test data have none that are large enough.
What is found in the pictures as they were is the reference that tells which way comes closer.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.effort import Effort
from benchmarks.networks import MissingDataError, yolox_nano
from benchmarks.pictures import shared_data
from benchmarks.place import Place, say
from imgpipeline.contracts.detection import Detection
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image
from imgpipeline.vision.detector import Detector, load_detector

_WIDTHS = (1280, 1920, 3840)
_VIDEOS = ("vehicles.mp4", "one-by-one-person-detection.mp4", "person-bicycle-car-detection.gif")
_LEAST_IOU = 0.5
_JPEG_QUALITY = 90
_LIMITS = ImageLimits(100_000_000, 100_000_000)


@dataclass(frozen=True, slots=True)
class Looked:
    """One picture by one way of decoding."""

    found: list[Detection]
    """What was found above the threshold."""
    decode_s: float
    """CPU time of decoding."""
    whole_s: float
    """CPU time of decoding and detection."""
    reduction: int
    """1, 2, 4 or 8."""


def measure_reduction(place: Place, effort: Effort) -> dict[str, Any]:  # noqa: ARG001 - every benchmark gets the servers
    """Measures reduced decoding against decoding at full size, each picture by both in turns.

    Returns:
        Per width: pictures, boxes of either way, matched ones, differences of confidence, and times.
    """
    try:
        network = yolox_nano()
    except MissingDataError as missing:
        return {"sizes": [], "missing": [str(missing)]}
    detector = load_detector(network.path, decoder="yolox", threads=1)
    sizes = []
    cv2.setNumThreads(1)  # all of a picture's work is done, and counted, in this thread
    for width in _WIDTHS:
        sizes.append(_measure_width(detector, width, list(_pictures(effort.pictures))))
        say(f"reduction: {width} px: {sizes[-1]['matched']} of {sizes[-1]['boxes_full']} boxes matched")
    return {"network": network.name, "threshold": detector.confidence_threshold, "sizes": sizes, "missing": []}


def _pictures(count: int) -> Iterator[Pixels]:
    """Yields the photos, and frames spread over each video."""
    for path in sorted((shared_data() / "images").glob("*.jpg")):
        yield np.asarray(cv2.imread(str(path)), np.uint8)
    for name in _VIDEOS:
        yield from _frames(shared_data() / "video" / name, max(1, count // len(_VIDEOS)))


def _frames(path: Path, count: int) -> Iterator[Pixels]:
    video = cv2.VideoCapture(str(path))
    total = max(1, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
    wanted = set(np.linspace(0, total - 1, min(count, total)).astype(int).tolist())
    for number in range(total):
        is_read, frame = video.read()
        if is_read and number in wanted:
            yield np.asarray(frame, np.uint8)
    video.release()


def _measure_width(detector: Detector, width: int, pictures: Sequence[Pixels]) -> dict[str, Any]:
    looked: dict[bool, list[Looked]] = {True: [], False: []}
    originals = []
    for picture in pictures:
        originals.append(_enlarge(detector.detect(picture), width / picture.shape[1]))
        height = round(picture.shape[0] * width / picture.shape[1])
        enlarged = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LANCZOS4)
        data = cv2.imencode(".jpg", enlarged, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
        for is_reduced, of_way in looked.items():
            of_way.append(_look(detector, data, is_reduced=is_reduced))
    full, reduced = looked[False], looked[True]
    pairs = [pair for a, b in zip(full, reduced, strict=True) for pair in match(a.found, b.found)]
    apart = sorted(abs(a.confidence - b.confidence) for a, b, _ in pairs)
    return {
        "width": width,
        "pictures": len(pictures),
        "reductions": sorted({one.reduction for one in reduced}),
        "boxes_full": sum(len(one.found) for one in full),
        "boxes_reduced": sum(len(one.found) for one in reduced),
        "matched": len(pairs),
        "boxes_original": sum(map(len, originals)),
        "original_full": _count_matches(originals, full),
        "original_reduced": _count_matches(originals, reduced),
        "unmatched_greatest_confidence": _greatest_unmatched(full, reduced),
        "mean_iou": statistics.fmean(iou for _, _, iou in pairs),
        "mean_difference": statistics.fmean(b.confidence - a.confidence for a, b, _ in pairs),
        "median_apart": statistics.median(apart),
        "p95_apart": apart[int(0.95 * (len(apart) - 1))],
        "most_apart": apart[-1],
        **{f"{name}_decode_ms": 1000 * statistics.median(one.decode_s for one in of) for name, of in _named(looked)},
        **{f"{name}_whole_ms": 1000 * statistics.median(one.whole_s for one in of) for name, of in _named(looked)},
    }


def _enlarge(found: Sequence[Detection], factor: float) -> list[Detection]:
    return [replace(box, box_xywh=tuple(side * factor for side in box.box_xywh or ())) for box in found]  # type: ignore[arg-type]  # four sides stay four


def _count_matches(originals: Sequence[Sequence[Detection]], looked: Sequence[Looked]) -> int:
    return sum(len(match(original, one.found)) for original, one in zip(originals, looked, strict=True))


def _named(looked: dict[bool, list[Looked]]) -> tuple[tuple[str, list[Looked]], ...]:
    return ("full", looked[False]), ("reduced", looked[True])


def _look(detector: Detector, data: bytes, *, is_reduced: bool) -> Looked:
    began_s = time.thread_time()
    image = decode_image(data, _LIMITS, reduced_for=detector.spec.network_input if is_reduced else None)
    decoded_s = time.thread_time()
    found = detector.detect(image)
    return Looked(found, decoded_s - began_s, time.thread_time() - began_s, image.reduction)


def match(full: Sequence[Detection], reduced: Sequence[Detection]) -> list[tuple[Detection, Detection, float]]:
    """Pairs boxes of one label with an IoU of at least 0.5, the greatest IoU first, each box once.

    Args:
        full: Of one picture, decoded at full size.
        reduced: Of the same picture, decoded at a reduced size.

    Returns:
        Both boxes and their IoU.
    """
    overlaps = [(_iou(a, b), i, k) for i, a in enumerate(full) for k, b in enumerate(reduced) if a.label == b.label]
    pairs, taken_a, taken_b = [], set(), set()
    for iou, i, k in sorted(overlaps, reverse=True):
        if iou >= _LEAST_IOU and i not in taken_a and k not in taken_b:
            taken_a.add(i)
            taken_b.add(k)
            pairs.append((full[i], reduced[k], iou))
    return pairs


def _greatest_unmatched(full: Sequence[Looked], reduced: Sequence[Looked]) -> float:
    alone = []
    for a, b in zip(full, reduced, strict=True):
        paired = {id(box) for first, second, _ in match(a.found, b.found) for box in (first, second)}
        alone += [box.confidence for box in (*a.found, *b.found) if id(box) not in paired]
    return max(alone, default=0.0)


def _iou(one: Detection, other: Detection) -> float:
    (x, y, w, h), (other_x, other_y, other_w, other_h) = one.box_xywh or (0,) * 4, other.box_xywh or (0,) * 4
    common_w = max(0.0, min(x + w, other_x + other_w) - max(x, other_x))
    common_h = max(0.0, min(y + h, other_y + other_h) - max(y, other_y))
    both = w * h + other_w * other_h - common_w * common_h
    return common_w * common_h / both if both else 0.0
