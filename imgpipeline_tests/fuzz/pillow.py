"""Compares what `decode_image` and Pillow decide about the fuzzed images (docs/decisions/0016-own-image-checks.md).

python -m imgpipeline_tests.fuzz.pillow --images 8000 --seed 1
"""

import argparse
import io
import time
from collections import Counter

import cv2
import numpy as np
from PIL import Image

from imgpipeline.errors import BadInputError
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline_tests.fuzz.cases import FRAME
from imgpipeline_tests.fuzz.images import MOST_PIXELS, hostile_images

Verdict = tuple[str, tuple[int, int, int] | None]
"""Outcome; width, height and orientation of an image that is accepted."""


def own(data: bytes) -> Verdict:
    try:
        image = decode_image(data, ImageLimits(MOST_PIXELS, 20_000_000))
    except BadInputError as error:
        return error.code.value, None
    return FRAME, (image.width, image.height, image.orientation)


def pillow(data: bytes, *, opencv_decodes: bool) -> Verdict:
    """Takes header and EXIF from Pillow, and the pixels from Pillow or, after `verify`, from OpenCV."""
    if not data:
        return "EMPTY_OBJECT", None
    try:
        if opencv_decodes:
            opened(data).verify()
        image = opened(data)
        if image.width * image.height > MOST_PIXELS:
            return "IMAGE_TOO_LARGE", None
        orientation = image.getexif().get(274, 1)
        turned = orientation in (5, 6, 7, 8) and image.format != "TIFF"  # Pillow turns TIFFs itself
        about = (*(image.size[::-1] if turned else image.size), orientation if 2 <= orientation <= 8 else 1)
        if opencv_decodes:
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
        else:
            decoded = image.convert("RGB") is not None
    except Exception:  # noqa: BLE001 - Pillow documents no list of what damaged files raise
        return "DECODE_FAILED", None
    return (FRAME, about) if decoded else ("DECODE_FAILED", None)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    ways = {
        "own": own,
        "Pillow": lambda data: pillow(data, opencv_decodes=False),
        "Pillow, then OpenCV": lambda data: pillow(data, opencv_decodes=True),
    }
    seconds, wrong, differ = Counter[str](), Counter[str](), {way: Counter[str]() for way in ways}
    for image in hostile_images(arguments.seed, arguments.images):
        verdicts = {}
        for way, decide in ways.items():
            began_s = time.perf_counter()
            verdicts[way] = decide(image.data)
            seconds[way] += time.perf_counter() - began_s
            wrong[way] += verdicts[way][0] not in image.expected
            if verdicts[way][0] != verdicts["own"][0]:
                differ[way][f"{verdicts['own'][0]} became {verdicts[way][0]}"] += 1
            elif verdicts[way][1] != verdicts["own"][1]:
                differ[way]["size or orientation"] += 1
    for way in ways:
        print(f"{way}: {seconds[way]:.1f} s, {wrong[way]} wrong, differs in {dict(differ[way])}")  # noqa: T201


if __name__ == "__main__":
    main()
