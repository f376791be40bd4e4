"""Boxes are drawn into a copy, whatever the labels and however small the picture."""

import itertools

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.vision.annotate import class_colour, draw_detections, encode_jpeg
from imgpipeline.vision.decode import ImageLimits, decode_image


def test_a_box_is_drawn_in_its_class_colour_and_the_picture_is_left_alone():
    pixels = np.zeros((200, 300, 3), np.uint8)
    drawn = draw_detections(pixels, [Detection("dog", 16, 0.9, (50.0, 60.0, 100.0, 80.0))])
    assert pixels.max() == 0
    for x, y in ((50, 100), (150, 100), (100, 140)):
        assert tuple(drawn[y, x].tolist()) == class_colour(16)
    assert drawn[100, 100].max() == 0, "the inside is not covered"


def test_classes_that_are_neighbours_have_different_colours():
    colours = [class_colour(class_id) for class_id in range(80)]
    assert len(set(colours)) == 80
    for one, next_one in itertools.pairwise(colours):
        assert np.abs(np.subtract(one, next_one)).max() > 60


@pytest.mark.parametrize("label", ["", "Fußgänger 犬 🐕", "two\nlines", "x" * 300])
@pytest.mark.parametrize("shape", [(1, 1, 3), (20, 30, 3), (2000, 3000, 3)])
def test_odd_labels_and_sizes_are_drawn(label, shape):
    height, width = shape[:2]
    found = [Detection(label, 3, 0.5, (0.0, 0.0, float(width), float(height)))]
    assert draw_detections(np.zeros(shape, np.uint8), found).shape == shape


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 360), (320, 180)), ((360, 640), (180, 320)), ((100, 50), (100, 50)), ((5000, 1), (320, 1))],
)
def test_a_preview_fits_into_the_side_it_is_given(size, expected):
    preview = encode_jpeg(np.full((size[1], size[0], 3), 90, np.uint8), 320, 80)
    image = decode_image(preview, ImageLimits(10**6, 10**6))
    assert (image.width, image.height) == expected


def test_a_lower_quality_is_smaller():
    noise = np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 1)
    assert len(encode_jpeg(noise, 200, 30)) < len(encode_jpeg(noise, 200, 90))
