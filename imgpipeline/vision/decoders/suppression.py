"""Greedy non-maximum suppression, vectorized; the result is that of OpenCV's `NMSBoxes`."""

from typing import Final

import numpy as np
import numpy.typing as npt

from imgpipeline.vision.decoders.candidates import Candidates, Floats, Ints

_BLOCK: Final = 128
"""So many boxes are compared with each other at a time: one by one is slow, all at once takes memory."""


def rank(candidates: Candidates) -> Ints:
    """Returns int64 indices of all boxes, the best first; of equal scores, the earlier one first."""
    return np.argsort(-candidates.scores, kind="stable")


def suppress(candidates: Candidates, nms_threshold: float, *, per_class: bool) -> Ints:
    """Drops boxes that overlap a better one (greedy non-maximum suppression).

    Args:
        candidates: Boxes of one picture.
        nms_threshold: A box is dropped if its IoU with a kept one is greater.
        per_class: Whether only boxes of one class compete; else all do.

    Returns:
        int64 indices of the kept boxes, the best first; of equal scores, the earlier one first.
    """
    order = rank(candidates)
    kept: list[int] = []
    while order.size:
        block, rest = order[:_BLOCK], order[_BLOCK:]
        drops = _overlaps(candidates, block, block, nms_threshold, per_class=per_class)
        alive = np.ones(block.size, bool)
        for index in range(block.size):
            if alive[index]:
                alive &= ~drops[index]
                alive[index] = True
        best = block[alive]
        kept += best.tolist()
        order = rest[~_overlaps(candidates, best, rest, nms_threshold, per_class=per_class).any(axis=0)]
    return np.array(kept, np.int64)


def _overlaps(
    candidates: Candidates, ones: Ints, others: Ints, nms_threshold: float, *, per_class: bool
) -> npt.NDArray[np.bool_]:
    """Tells for each of `ones` (rows) and `others` (columns) whether they compete and overlap by too much."""
    first, second = candidates.boxes_xyxy[ones].T[:, :, None], candidates.boxes_xyxy[others].T[:, None, :]
    size = np.maximum(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0)
    common = size[0] * size[1]
    union = _area(first) + _area(second) - common
    drop = common > nms_threshold * np.maximum(union, np.finfo(np.float32).tiny)
    if per_class:
        drop &= candidates.class_ids[ones][:, None] == candidates.class_ids[others][None, :]
    return np.asarray(drop, np.bool_)


def _area(boxes: Floats) -> Floats:
    size = np.maximum(boxes[2:] - boxes[:2], 0)
    return np.asarray(size[0] * size[1])
