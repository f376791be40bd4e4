"""From a captured frame to the bytes that are stored: encoding, and where they lie in the store."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import cv2
import numpy as np

from imgpipeline.contracts.image_keys import ImageKeyTemplate
from imgpipeline.errors import BadInputError, PermanentError
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.vision.annotate import encode_jpeg
from imgpipeline.vision.header import read_header


class ImageStore(Protocol):
    """The part of an object store that a publisher needs."""

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object; returns False, and changes nothing, if its key exists."""

    def get(self, key: str) -> bytes:
        """Returns the bytes of an object."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """The bytes of one image as they are stored."""

    data: bytes
    """The encoded image."""
    sha256: str
    """Lower-case hexadecimal SHA-256 of `data`."""
    width: int | None
    """Width of the upright image in pixels; None if the header cannot be read."""
    height: int | None
    """Height of the upright image in pixels; None if the header cannot be read."""


def encode(frame: CapturedFrame) -> EncodedImage:
    """Returns the frame's own bytes unchanged, or its pixels as JPEG.

    Raises:
        PermanentError: The frame has neither bytes nor pixels that can be encoded.
    """
    if frame.data is not None:
        width, height = size_of(frame.data)
        return EncodedImage(frame.data, frame.sha256 or sha256(frame.data).hexdigest(), width, height)
    if frame.pixels is None:
        raise PermanentError("A source yielded a frame without bytes and without pixels.")
    data = encode_jpeg(frame.pixels)
    return EncodedImage(data, sha256(data).hexdigest(), frame.pixels.shape[1], frame.pixels.shape[0])


def stretch(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretches pixels to a width and height: averaged where the image shrinks, interpolated where it grows."""
    interpolation = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation))


def size_of(data: bytes) -> tuple[int | None, int | None]:
    """Returns width and height of the upright image, or neither if its header cannot be read."""
    try:
        header = read_header(data)
    except BadInputError:
        return None, None
    turned = header.orientation >= 5
    return (header.height, header.width) if turned else (header.width, header.height)


def store_image(
    store: ImageStore | None, source: str, frame: CapturedFrame, image: EncodedImage, template: ImageKeyTemplate
) -> str:
    """Stores an image create-only and returns its key; the same image stored again has the same key.

    Args:
        store: Where to put it; None: only return the key.
        source: Whose image it is.
        frame: The frame; its name or, without one, time and content decide the key.
        image: What to store.
        template: How keys are made.

    Returns:
        The key, or one with `@digest` in the name if other bytes have that key already.

    Raises:
        TransientError: The store does not answer.
        PermanentError: The store refuses.
        UsageError: The template needs a number, and the frame has none.
    """
    number = frame.number if frame.position is None else frame.position
    of_frame: dict[str, Any] = {"name": frame.name, "number": number, "suffix": ending_of(image.data)}
    key = template.key(source, frame.timestamp, image.sha256, **of_frame)
    if (
        store is None
        or store.create(key, image.data)
        or (frame.name is None and image.sha256[:16] in key)
        or sha256(store.get(key)).hexdigest() == image.sha256
    ):
        return key
    key = template.key(source, frame.timestamp, image.sha256, **of_frame, beside_other=True)
    store.create(key, image.data)
    return key


def ending_of(data: bytes) -> str:
    """Returns the ending of a file name for an encoded image."""
    if data.startswith(b"\x89PNG"):
        return ".png"
    return ".jpg" if data.startswith(b"\xff\xd8") else ".img"
