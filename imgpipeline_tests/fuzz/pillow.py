"""Compares what `decode_image` and Pillow decide about the fuzzed images (docs/decisions/0017-own-image-checks.md).

python -m imgpipeline_tests.fuzz.pillow --images 8000 --seed 1
"""

import argparse
import io
import time
from collections import Counter
from functools import partial

import cv2
import numpy as np
from PIL import Image

from imgpipeline.errors import BadInputError
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline_tests.fuzz.cases import FRAME
from imgpipeline_tests.fuzz.images import MOST_PIXELS, hostile_images


def own(data: bytes) -> str:
    try:
        decode_image(data, ImageLimits(MOST_PIXELS, 20_000_000))
    except BadInputError as error:
        return error.code.value
    return FRAME


def pillow(data: bytes, *, opencv_decodes: bool) -> str:
    """Takes header and EXIF from Pillow, and the pixels from Pillow or, after `verify`, from OpenCV."""
    if not data:
        return "EMPTY_OBJECT"
    try:
        if opencv_decodes:
            opened(data).verify()
        image = opened(data)
        if image.width * image.height > MOST_PIXELS:
            return "IMAGE_TOO_LARGE"
        image.getexif()
        if not opencv_decodes:
            image.convert("RGB")
        elif cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is None:
            return "DECODE_FAILED"
    except Exception:  # noqa: BLE001 - Pillow documents no list of what damaged files raise
        return "DECODE_FAILED"
    return FRAME


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    images = list(hostile_images(arguments.seed, arguments.images))
    expected = [own(image.data) for image in images]
    ways = {
        "own": own,
        "Pillow": partial(pillow, opencv_decodes=False),
        "Pillow, then OpenCV": partial(pillow, opencv_decodes=True),
    }
    for way, decide in ways.items():
        began_s = time.process_time()
        found = [decide(image.data) for image in images]
        took_s = time.process_time() - began_s
        wrong = sum(one not in image.expected for one, image in zip(found, images, strict=True))
        differ = Counter(pair for pair in zip(expected, found, strict=True) if pair[0] != pair[1])
        print(f"{way}: {took_s:.1f} s of CPU, {wrong} wrong, differs in {dict(differ)}")  # noqa: T201 - a report


if __name__ == "__main__":
    main()
