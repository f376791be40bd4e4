"""Chooses how much smaller than its full size an image may be decoded.

A reduced image is never smaller than the network's input or the size at which quality is measured, so nothing is
enlarged again.
"""

from dataclasses import dataclass
from typing import Final, Literal

Resize = Literal["stretch", "letterbox", "letterbox-centred"]
"""How a picture is put into a network's input."""
REDUCTIONS: Final = (8, 4, 2)
"""The reductions that a JPEG decoder has almost for free, the largest first: it leaves out high frequencies."""
MEASURED_SIDE_PX: Final = 640
"""Longest side of the picture on which quality is measured."""


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """The size of a network's input, and how a picture is put into it."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    resize: Resize
    """Stretched to the input's size, or scaled to fit into its top left corner or its centre."""

    def placed_size(self, width: int, height: int) -> tuple[int, int]:
        """Tells at which size the network sees a picture.

        Args:
            width: Of the upright picture, pixels.
            height: Of the upright picture, pixels.

        Returns:
            Width and height in pixels of the input, each at least 1.
        """
        if self.resize == "stretch":
            return self.width, self.height
        ratio = min(self.width / width, self.height / height)
        if self.resize == "letterbox":
            return max(1, int(width * ratio)), max(1, int(height * ratio))
        return max(1, round(width * ratio)), max(1, round(height * ratio))

    def placed_at(self, width: int, height: int) -> tuple[int, int]:
        """Tells where the network sees the picture's top left corner.

        Args:
            width: As `placed_size` says, pixels.
            height: As `placed_size` says, pixels.

        Returns:
            Columns left of the picture and rows above it; of an odd rest, the larger part is right and below, as in
            Ultralytics' letterbox.
        """
        if self.resize != "letterbox-centred":
            return 0, 0
        return (self.width - width) // 2, (self.height - height) // 2


def measured_reduction(width: int, height: int) -> int:
    """Returns the power of two by which a picture is reduced, to at most 640 px a side, for its quality."""
    reduction = 1
    while max(width, height) > MEASURED_SIDE_PX * reduction:
        reduction *= 2
    return reduction


def choose_reduction(width: int, height: int, wanted: NetworkInput) -> int:
    """Chooses how much smaller a picture is decoded.

    Args:
        width: Of the upright picture, pixels.
        height: Of the upright picture, pixels.
        wanted: Where the picture goes.

    Returns:
        1, 2, 4 or 8: the largest with which the picture is still as large as the network and the measuring of its
        quality need it.
    """
    needed_width, needed_height = wanted.placed_size(width, height)
    most = measured_reduction(width, height)
    for reduction in REDUCTIONS:
        if reduction <= most and width >= reduction * needed_width and height >= reduction * needed_height:
            return reduction
    return 1
