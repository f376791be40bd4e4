"""The demo model's network, written once for two backends.

A backend either computes with JAX (`jax_backend`, for training) or emits ONNX nodes (`onnx_backend`, for export), so
that the exported network is the trained one. It uses plain convolutions throughout, which train faster on a CPU than
depthwise ones.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution, padded by kernel // 2 on all sides."""

    name: str
    """Names its weights."""
    inputs: int
    """Channels that come in."""
    outputs: int
    """Channels that go out."""
    kernel: int = 3
    """Side in px."""
    stride: int = 1
    """Step in px."""


T = TypeVar("T")


class Backend(Protocol[T]):
    """What the network asks of a backend; T is a feature map."""

    def conv(self, layer: Layer, x: T, /) -> T:
        """Convolves without bias, normalises over the batch, applies ReLU."""

    def head(self, layer: Layer, x: T, /) -> T:
        """Convolves with bias; the ONNX backend applies sigmoid from channel 4 on."""

    def add(self, a: T, b: T, /) -> T:
        """Adds two maps of one shape."""

    def double(self, x: T, /) -> T:
        """Enlarges by 2, repeating pixels."""


def network(backend: Backend[T], images: T, classes: int) -> list[T]:
    """Builds the network.

    Args:
        backend: Computes or emits.
        images: BGR, 0..255 for the ONNX backend, 0..2 for the JAX backend (the export folds the factor).
        classes: Number of classes.

    Returns:
        For each of `STRIDES` a map with 5 + classes channels: dx, dy, log width, log height (all in cells of
        the stride, as YOLOX has them), objectness, a score for each class.
    """
    b = backend
    x = b.conv(Layer("stem", 3, 16, stride=2), images)
    x = b.conv(Layer("down4", 16, 24, stride=2), x)
    x = b.conv(Layer("down8", 24, 32, stride=2), x)
    map8 = b.add(x, b.conv(Layer("body8", 32, 32), x))
    x = b.conv(Layer("down16", 32, 48, stride=2), map8)
    map16 = b.add(x, b.conv(Layer("body16", 48, 48), x))
    map32 = b.conv(Layer("down32", 48, 48, stride=2), map16)
    neck32 = b.conv(Layer("neck32", 48, 32, kernel=1), map32)
    neck16 = b.add(b.conv(Layer("neck16", 48, 32, kernel=1), map16), b.double(neck32))
    neck8 = b.add(b.conv(Layer("neck8", 32, 32, kernel=1), map8), b.double(neck16))
    outputs = []
    for stride, neck in zip(STRIDES, (neck8, neck16, neck32), strict=True):
        last = b.conv(Layer(f"last{stride}", 32, 32), neck)
        outputs.append(b.head(Layer(f"head{stride}", 32, 5 + classes, kernel=1), last))
    return outputs


def points(width: int, height: int) -> NDArray[np.float32]:
    """Gives column, row and stride of each point, in YOLOX's order: [points, 3]."""
    levels = []
    for stride in STRIDES:
        column, row = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        levels.append(np.stack([column, row, np.full_like(row, stride)], axis=-1).reshape(-1, 3))
    return np.concatenate(levels).astype(np.float32)
