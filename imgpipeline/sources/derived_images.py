"""Derived images: a grey, resized or edge image that a source stores beside each original.

The pipeline detects on the original. The announcement names the derived images in its attribute `derived`, so the
table `frames` leads from a frame to all of its images.
"""

import re
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from imgpipeline.contracts.keys import derived_image_key
from imgpipeline.errors import BadInputError
from imgpipeline.sources.images import ImageStore, stretch
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image

_SIZE = re.compile(r"[1-9]\d{0,4}x[1-9]\d{0,4}", re.ASCII)
_ENCODED = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_EDGE_LIMITS = (100, 200)
"""Lower and upper threshold of the Canny edge detector."""


def check_derivation(text: str) -> str:
    """Returns the name of a derivation: `gray`, `edges` (Canny), or a size such as `640x360`.

    Raises:
        ValueError: It is not one.
    """
    if text in _DERIVATIONS or _SIZE.fullmatch(text):
        return text
    raise ValueError(f"got {text!r}, expected gray, edges or a size such as 640x360")


def store_derived(
    store: ImageStore, key: str, data: bytes, derivations: tuple[str, ...], limits: ImageLimits
) -> Mapping[str, str]:
    """Derives images from an encoded image, and stores them create-only.

    Args:
        store: Where to put them.
        key: Where the original is stored.
        data: The original.
        derivations: What to derive (`check_derivation`).
        limits: The largest image that is decoded.

    Returns:
        The keys of the derived images, by derivation; empty if the original cannot be decoded.

    Raises:
        TransientError: The store does not answer.
    """
    try:
        pixels = decode_image(data, limits).pixels if derivations else None
    except BadInputError:
        return {}
    keys: dict[str, str] = {}
    for derivation in derivations:
        if pixels is not None:
            keys[derivation] = derived_image_key(key, derivation)
            store.create(keys[derivation], _encode(_derive(pixels, derivation), key))
    return keys


def _derive(pixels: Pixels, derivation: str) -> np.ndarray:
    if derivation in _DERIVATIONS:
        return _DERIVATIONS[derivation](pixels)
    width, height = (int(side) for side in derivation.split("x"))
    return stretch(pixels, (width, height))


def _grey(pixels: Pixels) -> np.ndarray:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY))


_DERIVATIONS: Mapping[str, Callable[[Pixels], np.ndarray]] = {
    "gray": _grey,
    "edges": lambda pixels: np.asarray(cv2.Canny(_grey(pixels), *_EDGE_LIMITS)),
}


def _encode(pixels: np.ndarray, key: str) -> bytes:
    """Encodes in the format of the original's name; a format that OpenCV does not write becomes JPEG."""
    ending = next((ending for ending in _ENCODED if key.lower().endswith(ending)), ".jpg")
    return cv2.imencode(ending, pixels)[1].tobytes()
