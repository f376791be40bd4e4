"""From a network's outputs to boxes: one decoder for each output layout, and non-maximum suppression.

A decoder is a pure function on arrays (`Decoder`); `layout` tells which one a network needs.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.errors import PermanentError
from imgpipeline.vision.decoders.candidates import Candidates, Decoder, Floats, Ints
from imgpipeline.vision.decoders.final import decode_detr, decode_end_to_end
from imgpipeline.vision.decoders.suppression import rank, suppress
from imgpipeline.vision.decoders.yolo import (
    decode_yolov4,
    decode_yolov5,
    decode_yolov8,
    decode_yolox,
    decode_yolox_decoded,
    yolox_grid,
)

__all__ = ["DECODERS", "Candidates", "Decoder", "Floats", "Ints", "decode_outputs", "select_boxes", "suppress",
           "yolox_grid"]  # fmt: skip

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
_FINAL: Final = frozenset({"end-to-end", "detr"})
"""Layouts in which each object has one box already."""


def decode_outputs(
    decoder: DecoderName, outputs: Sequence[Floats], input_size: tuple[int, int], confidence_threshold: float
) -> Candidates:
    """Reads a network's outputs.

    Args:
        decoder: The layout.
        outputs: Float32 arrays, as the decoder's function describes them.
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
    return DECODERS[decoder](outputs, input_size, confidence_threshold)


def select_boxes(decoder: DecoderName, found: Candidates, nms_threshold: float, *, per_class: bool) -> Ints:
    """Chooses one box for each object.

    Args:
        decoder: The layout. Networks with the layout `end-to-end` or `detr` have chosen already, so nothing is
            dropped.
        found: Boxes of one picture.
        nms_threshold: As for `suppress`.
        per_class: As for `suppress`.

    Returns:
        int64 indices of the chosen boxes, the best first.
    """
    return rank(found) if decoder in _FINAL else suppress(found, nms_threshold, per_class=per_class)
