"""The layouts of networks that return each object once: no suppression follows.

Sources: YOLOv10 and Ultralytics' exports with `nms=True` or `end2end` ([1, 300, 6]); the deployed RT-DETR, D-FINE and
DEIM models (`labels`, `boxes`, `scores`).
"""

from collections.abc import Sequence

import numpy as np

from imgpipeline.vision.decoders.candidates import Candidates, Floats, wrong_shape
from imgpipeline.vision.signature import DETR_OUTPUTS


def decode_end_to_end(outputs: Sequence[Floats], _: tuple[int, int], threshold: float, /) -> Candidates:
    """Reads one array [1, n, 6]: left, top, right, bottom in pixels, score, class. Unused rows have the score 0.

    Raises:
        PermanentError: The output has another shape.
    """
    if len(outputs) != 1 or outputs[0].ndim != 3 or outputs[0].shape[0] != 1 or outputs[0].shape[2] != 6:
        raise wrong_shape("end-to-end", outputs, "[1, n, 6]")
    rows = outputs[0][0]
    rows = rows[rows[:, 4] > threshold]
    return Candidates(rows[:, :4], rows[:, 4], np.rint(rows[:, 5]).astype(np.int64))


def decode_detr(outputs: Sequence[Floats], _: tuple[int, int], threshold: float, /) -> Candidates:
    """Reads `labels` [1, n], `boxes` [1, n, 4] (corners in pixels) and `scores` [1, n], in this order.

    Raises:
        PermanentError: An output has another shape.
    """
    shapes = [output.shape for output in outputs]
    count = shapes[0][-1] if shapes and shapes[0] else 0
    if shapes != [(1, count), (1, count, 4), (1, count)]:
        raise wrong_shape("detr", outputs, "labels [1, n], boxes [1, n, 4] and scores [1, n]")
    labels, boxes, scores = (output[0] for output in outputs)
    keep = np.flatnonzero(scores > threshold)
    return Candidates(boxes[keep], scores[keep], np.rint(labels[keep]).astype(np.int64))


def detr_order(output_names: Sequence[str]) -> tuple[int, ...]:
    """Tells where `labels`, `boxes` and `scores` are among a network's outputs.

    Args:
        output_names: Names of the outputs in the order in which a backend returns them.

    Returns:
        Indices of the three outputs; all outputs in their own order, if one of the three names is missing.
    """
    if not set(DETR_OUTPUTS) <= set(output_names):
        return tuple(range(len(output_names)))
    return tuple(output_names.index(name) for name in DETR_OUTPUTS)
