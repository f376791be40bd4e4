"""The largest network that is converted: beyond every published one, and small enough to be planned at once.

A cfg with `width=100000000` would otherwise ask for a grid that fills the memory.
"""

from typing import Final

from imgpipeline.vision.darknet.cfg import Section

LARGEST_CFG_BYTES: Final = 2**20
LARGEST_WEIGHTS_BYTES: Final = 2**31 - 2**24
"""An ONNX file holds at most 2 GiB, the graph included."""
MOST_LAYERS: Final = 1_000
LARGEST_SIDE: Final = 8_192
"""Pixels; of the input and of each layer's result."""
LARGEST_WINDOW: Final = 64
"""Pixels; of a kernel, a stride, a padding, and how often a pixel is repeated."""
MOST_CHANNELS: Final = 65_536
MOST_BOXES: Final = 1_000_000
"""Over all [yolo] layers; YOLOv4 at 608x608 has 22,743."""
LARGEST_ANCHOR: Final = 65_536
"""Pixels."""


def check_side(section: Section, width: int, height: int) -> None:
    """Raises PermanentError for an input or a result that is empty or too large."""
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise section.error(f"{width}x{height} pixels", f"1 to {LARGEST_SIDE} pixels on each side")


def check_window(section: Section, **pixels: int) -> None:
    """Raises PermanentError for a kernel, stride or padding that is too large."""
    for name, value in pixels.items():
        if value > LARGEST_WINDOW:
            raise section.error(f"{name} {value}", f"at most {LARGEST_WINDOW}")


def check_channels(section: Section, channels: int) -> None:
    """Raises PermanentError for a result without channels, or with too many."""
    if not 1 <= channels <= MOST_CHANNELS:
        raise section.error(f"{channels} channels", f"1 to {MOST_CHANNELS}")
