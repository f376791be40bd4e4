"""Compares stored images of consecutive frames, and draws their difference."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import cv2
import numpy as np

from imgpipeline.errors import BadInputError
from imgpipeline.events.values import FrameChange, SeenFrame
from imgpipeline.objectstore import ImageReader
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.vision.annotate import encode_jpeg, read_pixels
from imgpipeline.vision.decode import Pixels

_WORKERS = 4
_AHEAD = 8
"""Maximum number of decoded images in memory."""


_Pair = tuple[SeenFrame, SeenFrame]
"""A frame and the previous frame."""


class Comparisons:
    """Compares consecutive frames, each pair once: a build passes the whole day, a watch the frames as they arrive."""

    def __init__(self, images: ImageReader, known: Iterable[FrameChange]) -> None:
        """Starts with the comparisons that are known already."""
        self._images = images
        self._known = {change.pair: change for change in known}

    def of(self, frames: Sequence[SeenFrame]) -> list[FrameChange]:
        """Returns the comparison of each frame with the previous one of its source.

        Raises:
            TransientError: The store does not answer.
            ForbiddenError: The store refuses access.
        """
        pairs = [(frame, before) for before, frame in pairwise(frames) if before.source == frame.source]
        for change in _compare_pairs(self._images, [pair for pair in pairs if _key(pair) not in self._known]):
            self._known[change.pair] = change
        return [self._known[_key(pair)] for pair in pairs]


def _key(pair: _Pair) -> tuple[str, str, str, str]:
    frame, before = pair
    return frame.frame_id, frame.image_path, before.frame_id, before.image_path


def _compare_pairs(images: ImageReader, pairs: Sequence[_Pair]) -> Iterator[FrameChange]:
    """Yields the comparison of each pair, in order; an image that two consecutive pairs share is decoded once."""
    wanted: list[SeenFrame] = []
    for frame, previous in pairs:
        wanted += [frame] if wanted and wanted[-1] == previous else [previous, frame]
    decoded = map_ahead(lambda frame: _decode(images, frame), wanted, workers=_WORKERS, ahead=_AHEAD)
    last: tuple[SeenFrame, Pixels | BadInputError] | None = None
    for frame, previous in pairs:
        before = last[1] if last and last[0] == previous else next(decoded)
        now = next(decoded)
        last = (frame, now)
        yield _compare(frame, previous, now, before)


def draw_difference(images: ImageReader, path: str, previous_path: str) -> bytes | None:
    """Returns the difference image of two stored images as JPEG; None if one is no longer available.

    Raises:
        TransientError: The store does not answer.
        ForbiddenError: The store refuses access.
    """
    try:
        drawn = difference_image(read_pixels(images, path), read_pixels(images, previous_path))
    except BadInputError:
        return None
    return encode_jpeg(drawn)


def _decode(images: ImageReader, frame: SeenFrame) -> Pixels | BadInputError:
    try:
        return read_pixels(images, frame.image_path)
    except BadInputError as error:
        return error


def _compare(
    frame: SeenFrame, previous: SeenFrame, now: Pixels | BadInputError, before: Pixels | BadInputError
) -> FrameChange:
    norm: float | None = None
    reason: str | None = None
    if isinstance(now, BadInputError) or isinstance(before, BadInputError):
        outcome, reason = "unreadable", str(now if isinstance(now, BadInputError) else before)
    elif now.shape != before.shape:
        outcome = "sizes_differ"
        reason = f"the image is {_size(now)}, the one before {_size(before)}"
    else:
        outcome, norm = "compared", difference_norm(now, before)
    return FrameChange(
        frame_id=frame.frame_id,
        previous_frame_id=previous.frame_id,
        source=frame.source,
        timestamp=frame.timestamp,
        previous_timestamp=previous.timestamp,
        source_image_path=frame.image_path,
        previous_image_path=previous.image_path,
        outcome=outcome,
        norm=norm,
        reason=reason,
    )


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def difference_norm(image: Pixels, previous: Pixels) -> float:
    """Returns the L2 norm of the difference over all channels of all pixels of two images of one size; 0 if equal."""
    return float(cv2.norm(image, previous, cv2.NORM_L2))


def difference_image(image: Pixels, previous: Pixels) -> Pixels:
    """Returns the difference of two images of the same size, scaled to 0 to 255 over all channels.

    It is all 0 if every value differs by the same amount.
    """
    difference = image.astype(np.float32) - previous
    least, greatest = float(difference.min()), float(difference.max())
    if least == greatest:
        return np.zeros_like(image)
    return ((difference - least) / (greatest - least) * 255).astype(np.uint8)
