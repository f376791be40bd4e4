"""Previews are as good as their size allows, and their boxes lie where they were found."""

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.vision.annotate import encode_jpeg
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image
from imgpipeline.vision.previews import draw_preview, encode_preview, scaled

LIMITS = ImageLimits(10**7, 10**7)


def noise(width: int, height: int) -> Pixels:
    made = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(made, (0, 0), 1).astype(np.uint8)


@pytest.mark.parametrize("quality", [80, 50, 15])
def test_the_best_quality_that_fits_is_chosen(quality: int):
    pixels = noise(200, 200)
    expected = encode_jpeg(pixels, 200, quality)
    assert encode_preview(pixels, 200, len(expected)) == expected


def test_what_fits_at_no_quality_is_encoded_at_the_lowest():
    pixels = noise(200, 200)
    assert encode_preview(pixels, 200, 10) == encode_jpeg(pixels, 200, 15)


def test_boxes_are_drawn_in_the_pixels_of_the_preview():
    pixels = np.zeros((600, 1200, 3), np.uint8)
    found = [Detection("dog", 16, 0.9, (200.0, 240.0, 400.0, 320.0)), Detection("cat", 15, 0.8, None)]
    preview = decode_image(draw_preview(pixels, found, max_side=300, most_bytes=10**6), LIMITS)
    assert (preview.width, preview.height) == (300, 150)
    for x, y in ((50, 100), (100, 140), (150, 100)):
        assert preview.pixels[y, x].max() > 120, "a line, which JPEG blurs"
    assert preview.pixels[100, 100].max() < 30
    assert pixels.max() == 0


def test_boxes_are_scaled_by_the_size_that_shrinking_gave():
    found = scaled(
        [Detection("dog", 1, 0.9, (10.0, 10.0, 20.0, 10.0))],
        np.zeros((100, 1000, 3), np.uint8),
        np.zeros((33, 333, 3), np.uint8),
    )
    assert [detection.box_xywh for detection in found] == [pytest.approx((3.33, 3.3, 6.66, 3.3))]
