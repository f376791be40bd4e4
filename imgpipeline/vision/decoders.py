"""From a network's output to boxes: the YOLOX and YOLOv4 layouts, and non-maximum suppression.

The semantics are those of the classic OpenCV recipe: score = objectness x class score, the best class per box,
threshold strictly greater. The arithmetic is vectorized over all candidates. `preprocess` maps boxes back to the
image.

Sources: YOLOX (Megvii, `demo_postprocess`), YOLOv4 (Darknet's yolo layer), OpenCV's `NMSBoxes`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from imgpipeline.errors import PermanentError
from imgpipeline.vision.model import DecoderName

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

YOLOX_STRIDES: Final = (8, 16, 32)
_BLOCK: Final = 128
"""So many boxes are compared with each other at a time: one by one is slow, all at once takes memory."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes above the threshold, before suppression."""

    boxes_xyxy: Floats
    """float32 [n, 4]: left, top, right, bottom in pixels of the network's input; may reach outside of it."""
    scores: Floats
    """float32 [n], in (threshold, 1]."""
    class_ids: Ints
    """int64 [n], from 0."""


def decode_outputs(
    decoder: DecoderName, outputs: Sequence[Floats], input_size: tuple[int, int], confidence_threshold: float
) -> Candidates:
    """Reads a network's outputs.

    Args:
        decoder: The layout.
        outputs: `yolox`: one array [1, n, 5 + classes], undecoded (strides 8, 16, 32). `yolov4`: arrays
            [1, n, 5 + classes] or [n, 5 + classes] of centre, size (fractions of the input), objectness and
            class scores; or the pair [1, n, 1, 4] (corners as fractions), [1, n, classes] (final scores).
        input_size: Width and height of the network's input in pixels.
        confidence_threshold: Scores must be strictly greater.

    Returns:
        The boxes above the threshold, in the network's order.

    Raises:
        PermanentError: An output has another shape than the layout says, or is not finite.
    """
    for output in outputs:
        if not np.isfinite(output).all():
            raise PermanentError(
                "The model's output holds NaN or infinity; its file or its backend is broken.",
                next_step="imgpipeline models bench, to see which backend is at fault",
            )
    return _DECODERS[decoder](outputs, input_size, confidence_threshold)


def _decode_yolox(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float) -> Candidates:
    grid = yolox_grid(*input_size)
    rows = outputs[0].reshape(-1, outputs[0].shape[-1])
    if len(outputs) != 1 or rows.shape[0] != grid.shape[0] or rows.shape[1] < 6:
        raise _wrong_shape("yolox", outputs, f"[1, {grid.shape[0]}, 5 + classes]")
    keep, scores, class_ids = _select(rows[:, 4], rows[:, 5:], threshold)
    rows, grid = rows[keep], grid[keep]
    centre = (rows[:, :2] + grid[:, :2]) * grid[:, 2:]
    size = np.exp(rows[:, 2:4]) * grid[:, 2:]
    return Candidates(np.concatenate([centre - size / 2, centre + size / 2], axis=1), scores, class_ids)


@lru_cache(maxsize=8)
def yolox_grid(width: int, height: int) -> Floats:
    """Makes the anchor points of YOLOX.

    Args:
        width: Pixels of the network's input.
        height: Pixels of the network's input.

    Returns:
        float32 [n, 3]: column, row and stride of each output row; not to be changed, it is shared.
    """
    parts = []
    for stride in YOLOX_STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        parts.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    grid = np.concatenate(parts).astype(np.float32)
    grid.setflags(write=False)
    return grid


def _decode_yolov4(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float) -> Candidates:
    if len(outputs) == 2 and outputs[0].ndim == 4 and outputs[0].shape[-1] == 4:
        return _decode_corner_pair(outputs, input_size, threshold)
    widths = {output.shape[-1] for output in outputs}
    if len(widths) != 1 or min(widths) < 6 or any(o.ndim not in (2, 3) for o in outputs):
        raise _wrong_shape("yolov4", outputs, "[1, n, 5 + classes] each, or [1, n, 1, 4] and [1, n, classes]")
    rows = np.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs])
    keep, scores, class_ids = _select(rows[:, 4], rows[:, 5:], threshold)
    scale = np.array(input_size, np.float32)
    centre, size = rows[keep, :2] * scale, rows[keep, 2:4] * scale
    return Candidates(np.concatenate([centre - size / 2, centre + size / 2], axis=1), scores, class_ids)


def _decode_corner_pair(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float) -> Candidates:
    boxes, class_scores = outputs[0].reshape(-1, 4), outputs[1].reshape(-1, outputs[1].shape[-1])
    if len(boxes) != len(class_scores):
        raise _wrong_shape("yolov4", outputs, "[1, n, 1, 4] and [1, n, classes]")
    keep, scores, class_ids = _select(np.ones(len(boxes), np.float32), class_scores, threshold)
    return Candidates(boxes[keep] * np.array(input_size * 2, np.float32), scores, class_ids)


_DECODERS: Final[dict[DecoderName, Callable[[Sequence[Floats], tuple[int, int], float], Candidates]]] = {
    "yolox": _decode_yolox,
    "yolov4": _decode_yolov4,
}


def _select(objectness: Floats, class_scores: Floats, threshold: float) -> tuple[Ints, Floats, Ints]:
    """Returns indices, scores and classes of what is above the threshold."""
    # No class score is above 1, so most rows fall by their objectness alone: that saves the larger product.
    likely = np.flatnonzero(objectness > threshold)
    class_scores = class_scores[likely]
    class_ids = class_scores.argmax(axis=1)
    scores = objectness[likely] * np.take_along_axis(class_scores, class_ids[:, None], axis=1)[:, 0]
    above = scores > threshold
    return likely[above], scores[above], class_ids[above]


def suppress(candidates: Candidates, nms_threshold: float, *, per_class: bool) -> Ints:
    """Drops boxes that overlap a better one (greedy non-maximum suppression).

    Args:
        candidates: Boxes of one picture.
        nms_threshold: A box is dropped if its IoU with a kept one is greater.
        per_class: Whether only boxes of one class compete; else all do.

    Returns:
        int64 indices of the kept boxes, the best first; of equal scores, the earlier one first.
    """
    order = np.argsort(-candidates.scores, kind="stable")
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


def _wrong_shape(decoder: str, outputs: Sequence[Floats], expected: str) -> PermanentError:
    got = ", ".join(str(list(output.shape)) for output in outputs)
    return PermanentError(
        f"The model's output is {got}; the decoder {decoder!r} expects {expected}.",
        next_step="set IMGPIPELINE_MODEL_DECODER to the model's layout (yolox or yolov4)",
    )
