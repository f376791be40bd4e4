"""The layouts of the YOLO family: a row (or column) for each anchor, with centre, size and class scores.

The best class counts for each box, and the threshold is strict, as in the classic OpenCV recipe. The arithmetic is
vectorized over all anchors.

Sources: YOLOX (Megvii, `demo_postprocess` and `YOLOXHead.decode_outputs`), YOLOv4 (Darknet's yolo layer), YOLOv5 and
YOLOv8 (`non_max_suppression` in Ultralytics' documentation of its exports).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from imgpipeline.vision.decoders.candidates import Candidates, Floats, corners, select, wrong_shape

YOLOX_STRIDES: Final = (8, 16, 32)


def decode_yolox(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float, /) -> Candidates:
    """Reads YOLOX's raw output: one array [1, n, 5 + classes] in units of grid cells (strides 8, 16, 32).

    Raises:
        PermanentError: The output has another shape.
    """
    rows, grid = _yolox_rows("yolox", outputs, input_size)
    keep, scores, class_ids = select(rows[:, 4], rows[:, 5:], threshold)
    rows, grid = rows[keep], grid[keep]
    centre = (rows[:, :2] + grid[:, :2]) * grid[:, 2:]
    return Candidates(corners(centre, np.exp(rows[:, 2:4]) * grid[:, 2:]), scores, class_ids)


def decode_yolox_decoded(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float, /) -> Candidates:
    """Reads YOLOX's decoded output (`--decode_in_inference`): one array [1, n, 5 + classes] in pixels of the input.

    Raises:
        PermanentError: The output has another shape.
    """
    rows, _ = _yolox_rows("yolox-decoded", outputs, input_size)
    return _pixel_rows(rows, threshold)


def _yolox_rows(decoder: str, outputs: Sequence[Floats], input_size: tuple[int, int]) -> tuple[Floats, Floats]:
    grid = yolox_grid(*input_size)
    rows = outputs[0].reshape(-1, outputs[0].shape[-1])
    if len(outputs) != 1 or rows.shape[0] != grid.shape[0] or rows.shape[1] < 6:
        raise wrong_shape(decoder, outputs, f"[1, {grid.shape[0]}, 5 + classes]")
    return rows, grid


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


def decode_yolov4(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float, /) -> Candidates:
    """Reads the outputs of YOLOv3 and YOLOv4 in fractions of the input.

    Either arrays [1, n, 5 + classes] or [n, 5 + classes] of centre, size, objectness and class scores; or the pair
    [1, n, 1, 4] (corners), [1, n, classes] (final scores).

    Raises:
        PermanentError: An output has another shape.
    """
    if len(outputs) == 2 and outputs[0].ndim == 4 and outputs[0].shape[-1] == 4:
        return _decode_corner_pair(outputs, input_size, threshold)
    widths = {output.shape[-1] for output in outputs}
    if len(widths) != 1 or min(widths) < 6 or any(o.ndim not in (2, 3) for o in outputs):
        raise wrong_shape("yolov4", outputs, "[1, n, 5 + classes] each, or [1, n, 1, 4] and [1, n, classes]")
    rows = np.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs])
    keep, scores, class_ids = select(rows[:, 4], rows[:, 5:], threshold)
    scale = np.array(input_size, np.float32)
    return Candidates(corners(rows[keep, :2] * scale, rows[keep, 2:4] * scale), scores, class_ids)


def _decode_corner_pair(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float) -> Candidates:
    boxes, class_scores = outputs[0].reshape(-1, 4), outputs[1].reshape(-1, outputs[1].shape[-1])
    if len(boxes) != len(class_scores):
        raise wrong_shape("yolov4", outputs, "[1, n, 1, 4] and [1, n, classes]")
    keep, scores, class_ids = select(np.ones(len(boxes), np.float32), class_scores, threshold)
    return Candidates(boxes[keep] * np.array(input_size * 2, np.float32), scores, class_ids)


def decode_yolov5(outputs: Sequence[Floats], _: tuple[int, int], threshold: float, /) -> Candidates:
    """Reads YOLOv5's output: one array [1, n, 5 + classes] of centre and size in pixels, objectness, class scores.

    Raises:
        PermanentError: The output has another shape.
    """
    if len(outputs) != 1 or outputs[0].ndim != 3 or outputs[0].shape[0] != 1 or outputs[0].shape[2] < 6:
        raise wrong_shape("yolov5", outputs, "[1, n, 5 + classes]")
    return _pixel_rows(outputs[0][0], threshold)


def _pixel_rows(rows: Floats, threshold: float) -> Candidates:
    keep, scores, class_ids = select(rows[:, 4], rows[:, 5:], threshold)
    return Candidates(corners(rows[keep, :2], rows[keep, 2:4]), scores, class_ids)


def decode_yolov8(outputs: Sequence[Floats], _: tuple[int, int], threshold: float, /) -> Candidates:
    """Reads the output of YOLOv8, v9, v11 and v12: one array [1, 4 + classes, n] without objectness.

    Each column holds centre and size in pixels and the final class scores.

    Raises:
        PermanentError: The output has another shape.
    """
    if len(outputs) != 1 or outputs[0].ndim != 3 or outputs[0].shape[0] != 1 or outputs[0].shape[1] < 5:
        raise wrong_shape("yolov8", outputs, "[1, 4 + classes, n]")
    columns = outputs[0][0]
    # The maximum of whole rows is several times faster than an argmax along columns that are mostly dropped.
    keep = np.flatnonzero(columns[4:].max(axis=0) > threshold)
    kept = columns[:, keep]
    class_ids = kept[4:].argmax(axis=0)
    scores = kept[4:][class_ids, np.arange(keep.size)]
    return Candidates(corners(kept[:2].T, kept[2:4].T), scores, class_ids)
