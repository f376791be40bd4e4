"""Every layout read in plain Python, one number at a time: what the vectorized decoders are compared with.

Written from the papers' and exporters' descriptions, without NumPy and without the code of the product.
"""

import math
from collections.abc import Iterator

Box = tuple[float, float, float, float, float, int]
"""Left, top, right, bottom, score, class."""


def read_plainly(layout: str, outputs: list, size: tuple[int, int], threshold: float) -> list[Box]:
    """Return the boxes above the threshold in the network's order; `outputs` are nested lists."""
    return [box for box in _READERS[layout](outputs, *size) if box[4] > threshold]


def _best(scores: list[float]) -> tuple[float, int]:
    best = max(range(len(scores)), key=lambda index: scores[index])
    return scores[best], best


def _around(x: float, y: float, w: float, h: float, score: float, class_id: int) -> Box:
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2, score, class_id


def _cells(width: int, height: int) -> Iterator[tuple[int, int, int]]:
    for stride in (8, 16, 32):
        for row in range(height // stride):
            for column in range(width // stride):
                yield column, row, stride


def _yolox(outputs: list, width: int, height: int) -> Iterator[Box]:
    for (x, y, w, h, objectness, *scores), (column, row, stride) in zip(
        outputs[0][0], _cells(width, height), strict=True
    ):
        score, class_id = _best(scores)
        yield _around(
            (x + column) * stride, (y + row) * stride, math.exp(w) * stride, math.exp(h) * stride,
            objectness * score, class_id,
        )  # fmt: skip


def _pixels(outputs: list, _width: int, _height: int) -> Iterator[Box]:
    for x, y, w, h, objectness, *scores in outputs[0][0]:
        score, class_id = _best(scores)
        yield _around(x, y, w, h, objectness * score, class_id)


def _fractions(outputs: list, width: int, height: int) -> Iterator[Box]:
    for x, y, w, h, objectness, *scores in (row for output in outputs for row in output[0]):
        score, class_id = _best(scores)
        yield _around(x * width, y * height, w * width, h * height, objectness * score, class_id)


def _columns(outputs: list, _width: int, _height: int) -> Iterator[Box]:
    for anchor in range(len(outputs[0][0][0])):
        x, y, w, h, *scores = (channel[anchor] for channel in outputs[0][0])
        yield _around(x, y, w, h, *_best(scores))


def _end_to_end(outputs: list, _width: int, _height: int) -> Iterator[Box]:
    for left, top, right, bottom, score, class_id in outputs[0][0]:
        yield left, top, right, bottom, score, int(class_id)


def _detr(outputs: list, _width: int, _height: int) -> Iterator[Box]:
    for label, corners, score in zip(*(output[0] for output in outputs), strict=True):
        yield (*corners, score, int(label))


_READERS = {
    "yolox": _yolox,
    "yolox-decoded": _pixels,
    "yolov4": _fractions,
    "yolov5": _pixels,
    "yolov8": _columns,
    "end-to-end": _end_to_end,
    "detr": _detr,
}
