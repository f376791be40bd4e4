"""Draws boxes and paths on stored images of a day, or says why an image cannot be shown."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imgpipeline.contracts.detection import Detection
from imgpipeline.errors import BadInputError, DeadLetterCode, ImageDeletedError
from imgpipeline.objectstore import ImageReader
from imgpipeline.reports.palette import Colour
from imgpipeline.vision.paths import DrawnPath, draw_paths
from imgpipeline.vision.previews import draw_preview, read_pixels

_LARGE = (720, 60_000)
"""Longest side in pixels, and most bytes of the JPEG file."""
_SMALL = (480, 25_000)
_NO_IMAGE = "The frame was imported without an image."
_REASONS = {
    DeadLetterCode.OBJECT_NOT_FOUND: "The image is no longer in the store.",
    DeadLetterCode.OBJECT_FORBIDDEN: "The store refuses access to the image.",
    DeadLetterCode.PATH_NOT_ALLOWED: "The pipeline may not read the location of the image.",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the page shows it."""

    jpeg_base64: str | None = None
    """The image with what is drawn on it; None if it cannot be shown."""
    missing: str | None = None
    """Why it cannot be shown; None if it can."""


@dataclass(frozen=True, slots=True)
class Easel:
    """Draws the images of a page."""

    reader: ImageReader
    """Reads stored images."""
    colour_of: Callable[[str], Colour]
    """Colour of a label."""

    def draw(
        self, path: str, detections: Sequence[Detection], paths: Sequence[DrawnPath] = (), *, is_small: bool = False
    ) -> Picture:
        """Draws detections, and paths below them, on a stored image.

        Args:
            path: Where the image is stored; empty if there is none.
            detections: What was found in it.
            paths: In pixels of the image.
            is_small: Whether it is one of many.

        Raises:
            TransientError: The store does not answer.
            ForbiddenError: The store refuses everything.
        """
        if not path:
            return Picture(missing=_NO_IMAGE)
        try:
            pixels = read_pixels(self.reader, path)
        except ImageDeletedError as error:
            return Picture(missing=error.message)
        except BadInputError as error:
            said = _REASONS.get(error.code, f"The image can no longer be shown ({error.code.value}).")
            return Picture(missing=said)
        side_px, size_bytes = _SMALL if is_small else _LARGE
        drawn = draw_preview(
            draw_paths(pixels, paths) if paths else pixels,
            detections,
            max_side=side_px,
            most_bytes=size_bytes,
            colour_of=lambda found: self.colour_of(found.label),
        )
        return Picture(base64.b64encode(drawn).decode())
