"""Reads a network's outputs as boxes: one decoder for each output layout, and non-maximum suppression.

Decoders are pure functions on arrays, vectorized over all anchors. The score of a box is that of its best class, and
the threshold is strict, as in the classic OpenCV recipe. `own_model` finds out which layout a network has.

Sources: YOLOX (Megvii, `demo_postprocess` and `YOLOXHead.decode_outputs`); YOLOv4 (Darknet's yolo layer); YOLOv5 and
YOLOv8 (`non_max_suppression` in Ultralytics' documentation of its exports); YOLOv10 and Ultralytics' exports with
`nms=True` or `end2end` ([1, 300, 6]); the deployed RT-DETR, D-FINE and DEIM models (`labels`, `boxes`, `scores`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import PermanentError
from imgpipeline.vision.model import DETR_OUTPUTS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_YOLOX_STRIDES: Final = (8, 16, 32)
_FINAL: Final = frozenset({"end-to-end", "detr"})
"""Layouts of networks that return each object once."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes above the threshold, before suppression."""

    boxes_xyxy: Floats
    """float32 [n, 4]: left, top, right, bottom in pixels of the network's input; may extend beyond it."""
    scores: Floats
    """float32 [n], in (threshold, 1]."""
    class_ids: Ints
    """int64 [n], from 0."""


Decoder = Callable[[Sequence[Floats], tuple[int, int], float], Candidates]
"""Reads the outputs of one layout, given width and height of the network's input in pixels and a threshold in [0, 1).

Returns the boxes that score strictly above it, in the network's order; raises PermanentError if a shape does not match
the layout. Changes no array; the same arrays always give the same boxes."""


def decode_outputs(
    decoder: DecoderName, outputs: Sequence[Floats], input_size: tuple[int, int], confidence_threshold: float
) -> Candidates:
    """Reads a network's outputs with the decoder of its layout.

    Raises:
        PermanentError: An output contains NaN or infinity, or its shape does not match the layout.
    """
    for output in outputs:
        if not np.isfinite(output).all():
            raise PermanentError(
                "The model's output contains NaN or infinity; its file or its backend is broken.",
                next_step="try another IMGPIPELINE_MODEL_BACKEND, to see which one is at fault",
            )
    return DECODERS[decoder](outputs, input_size, confidence_threshold)


def decode_yolox(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float) -> Candidates:
    """Reads YOLOX's raw output: one array [1, n, 5 + classes] in units of grid cells (strides 8, 16, 32)."""
    rows, grid = _yolox_rows("yolox", outputs, input_size)
    keep, scores, class_ids = _best_classes(rows[:, 4], rows[:, 5:], threshold)
    rows, grid = rows[keep], grid[keep]
    centre = (rows[:, :2] + grid[:, :2]) * grid[:, 2:]
    return Candidates(_corners(centre, np.exp(rows[:, 2:4]) * grid[:, 2:]), scores, class_ids)


def decode_yolox_decoded(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float) -> Candidates:
    """Reads YOLOX's decoded output (`--decode_in_inference`): one array [1, n, 5 + classes] in pixels of the input."""
    rows, _ = _yolox_rows("yolox-decoded", outputs, input_size)
    return _pixel_rows(rows, threshold)


def _yolox_rows(decoder: str, outputs: Sequence[Floats], input_size: tuple[int, int]) -> tuple[Floats, Floats]:
    grid = yolox_grid(*input_size)
    rows = outputs[0].reshape(-1, outputs[0].shape[-1])
    if len(outputs) != 1 or rows.shape[0] != grid.shape[0] or rows.shape[1] < 6:
        raise _wrong_shape(decoder, outputs, f"[1, {grid.shape[0]}, 5 + classes]")
    return rows, grid


@lru_cache(maxsize=8)
def yolox_grid(width: int, height: int) -> Floats:
    """Returns the anchor points of YOLOX for the width and height of a network's input in pixels.

    Returns:
        float32 [n, 3]: column, row and stride of each output row; read-only, because it is shared.
    """
    parts = []
    for stride in _YOLOX_STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        parts.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    grid = np.concatenate(parts).astype(np.float32)
    grid.setflags(write=False)
    return grid


def decode_yolov4(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float) -> Candidates:
    """Reads the outputs of YOLOv3 and YOLOv4 in fractions of the input.

    Either arrays [1, n, 5 + classes] or [n, 5 + classes] of centre, size, objectness and class scores; or the pair
    [1, n, 1, 4] (corners), [1, n, classes] (final scores).
    """
    if len(outputs) == 2 and outputs[0].ndim == 4 and outputs[0].shape[-1] == 4:
        return _decode_corner_pair(outputs, input_size, threshold)
    widths = {output.shape[-1] for output in outputs}
    if len(widths) != 1 or min(widths) < 6 or any(o.ndim not in (2, 3) for o in outputs):
        raise _wrong_shape("yolov4", outputs, "[1, n, 5 + classes] each, or [1, n, 1, 4] and [1, n, classes]")
    rows = np.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs])
    keep, scores, class_ids = _best_classes(rows[:, 4], rows[:, 5:], threshold)
    scale = np.array(input_size, np.float32)
    return Candidates(_corners(rows[keep, :2] * scale, rows[keep, 2:4] * scale), scores, class_ids)


def _decode_corner_pair(outputs: Sequence[Floats], input_size: tuple[int, int], threshold: float) -> Candidates:
    boxes, class_scores = outputs[0].reshape(-1, 4), outputs[1].reshape(-1, outputs[1].shape[-1])
    if len(boxes) != len(class_scores):
        raise _wrong_shape("yolov4", outputs, "[1, n, 1, 4] and [1, n, classes]")
    keep, scores, class_ids = _best_classes(np.ones(len(boxes), np.float32), class_scores, threshold)
    return Candidates(boxes[keep] * np.array(input_size * 2, np.float32), scores, class_ids)


def decode_yolov5(outputs: Sequence[Floats], _: tuple[int, int], threshold: float) -> Candidates:
    """Reads YOLOv5's output: one array [1, n, 5 + classes] of centre and size in pixels, objectness, class scores."""
    array = _only_array("yolov5", outputs, "[1, n, 5 + classes]")
    if array.shape[1] < 6:
        raise _wrong_shape("yolov5", outputs, "[1, n, 5 + classes]")
    return _pixel_rows(array, threshold)


def _pixel_rows(rows: Floats, threshold: float) -> Candidates:
    keep, scores, class_ids = _best_classes(rows[:, 4], rows[:, 5:], threshold)
    return Candidates(_corners(rows[keep, :2], rows[keep, 2:4]), scores, class_ids)


def decode_yolov8(outputs: Sequence[Floats], _: tuple[int, int], threshold: float) -> Candidates:
    """Reads the output of YOLOv8, v9, v11 and v12: one array [1, 4 + classes, n] without objectness.

    Each column holds centre and size in pixels and the final class scores.
    """
    columns = _only_array("yolov8", outputs, "[1, 4 + classes, n]")
    if len(columns) < 5:
        raise _wrong_shape("yolov8", outputs, "[1, 4 + classes, n]")
    # Most columns are dropped, and a maximum over whole rows is several times faster than an argmax along columns.
    keep = np.flatnonzero(columns[4:].max(axis=0) > threshold)
    kept = columns[:, keep]
    class_ids = kept[4:].argmax(axis=0)
    scores = kept[4:][class_ids, np.arange(keep.size)]
    return Candidates(_corners(kept[:2].T, kept[2:4].T), scores, class_ids)


def decode_end_to_end(outputs: Sequence[Floats], _: tuple[int, int], threshold: float) -> Candidates:
    """Reads one array [1, n, 6]: left, top, right, bottom in pixels, score, class. Unused rows have the score 0."""
    rows = _only_array("end-to-end", outputs, "[1, n, 6]")
    if rows.shape[1] != 6:
        raise _wrong_shape("end-to-end", outputs, "[1, n, 6]")
    rows = rows[rows[:, 4] > threshold]
    return Candidates(rows[:, :4], rows[:, 4], np.rint(rows[:, 5]).astype(np.int64))


def decode_detr(outputs: Sequence[Floats], _: tuple[int, int], threshold: float) -> Candidates:
    """Reads `labels` [1, n], `boxes` [1, n, 4] (corners in pixels) and `scores` [1, n], in this order."""
    shapes = [output.shape for output in outputs]
    count = shapes[0][-1] if shapes and shapes[0] else 0
    if shapes != [(1, count), (1, count, 4), (1, count)]:
        raise _wrong_shape("detr", outputs, "labels [1, n], boxes [1, n, 4] and scores [1, n]")
    labels, boxes, scores = (output[0] for output in outputs)
    keep = np.flatnonzero(scores > threshold)
    return Candidates(boxes[keep], scores[keep], np.rint(labels[keep]).astype(np.int64))


def detr_order(output_names: Sequence[str]) -> tuple[int, ...]:
    """Returns the indices of `labels`, `boxes` and `scores` in a backend's outputs; of all if one is missing."""
    if not set(DETR_OUTPUTS) <= set(output_names):
        return tuple(range(len(output_names)))
    return tuple(output_names.index(name) for name in DETR_OUTPUTS)


DECODERS: Final[dict[DecoderName, Decoder]] = {
    "yolox": decode_yolox,
    "yolox-decoded": decode_yolox_decoded,
    "yolov4": decode_yolov4,
    "yolov5": decode_yolov5,
    "yolov8": decode_yolov8,
    "end-to-end": decode_end_to_end,
    "detr": decode_detr,
}
"""All decoders, by the name in settings and registries."""


def _only_array(decoder: str, outputs: Sequence[Floats], expected: str) -> Floats:
    if len(outputs) != 1 or outputs[0].ndim != 3 or outputs[0].shape[0] != 1:
        raise _wrong_shape(decoder, outputs, expected)
    return np.asarray(outputs[0][0])


def _best_classes(objectness: Floats, class_scores: Floats, threshold: float) -> tuple[Ints, Floats, Ints]:
    """Returns indices, scores and classes of the rows above the threshold. Score = objectness x best class score."""
    # No class score is above 1, so objectness alone rules out most rows before the larger product is computed.
    likely = np.flatnonzero(objectness > threshold)
    class_scores = class_scores[likely]
    class_ids = class_scores.argmax(axis=1)
    scores = objectness[likely] * np.take_along_axis(class_scores, class_ids[:, None], axis=1)[:, 0]
    above = scores > threshold
    return likely[above], scores[above], class_ids[above]


def _corners(centre: Floats, size: Floats) -> Floats:
    """Returns float32 [n, 4] left, top, right, bottom of boxes given by centre and size, each [n, 2]."""
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def _wrong_shape(decoder: str, outputs: Sequence[Floats], expected: str) -> PermanentError:
    got = ", ".join(str(list(output.shape)) for output in outputs)
    return PermanentError(
        f"The model's output is {got}; the decoder {decoder!r} expects {expected}.",
        next_step="set IMGPIPELINE_MODEL_DECODER (or the decoder in the model's entry) to the model's layout; "
        "`imgpipeline models check FILE IMAGE` shows what each layout finds",
    )


def select_boxes(decoder: DecoderName, found: Candidates, nms_threshold: float, *, per_class: bool) -> Ints:
    """Returns the int64 indices of one box for each object, the best first; of equal scores, the earlier one first.

    Nothing is dropped for the layouts `end-to-end` and `detr`, whose networks return each object once.

    Args:
        decoder: The layout of the network's outputs.
        nms_threshold: A box is dropped if its IoU with a better, kept one is greater.
        per_class: Whether only boxes of one class compete; otherwise all do.
    """
    kept = np.arange(len(found.scores))
    if decoder not in _FINAL and kept.size:
        corner = found.boxes_xyxy[:, :2]
        boxes = np.hstack([corner, np.maximum(found.boxes_xyxy[:, 2:] - corner, 0)]).astype(np.float64)
        class_ids = found.class_ids if per_class else np.zeros_like(found.class_ids)
        suppress: Any = cv2.dnn.NMSBoxesBatched  # OpenCV's annotations allow only sequences
        kept = np.asarray(suppress(boxes, found.scores, class_ids.astype(np.int32), 0.0, nms_threshold), np.int64)
        kept.sort()
    return kept[np.argsort(-found.scores[kept], kind="stable")]
