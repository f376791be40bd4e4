"""Boxes and paths are drawn on a copy, for any label and size; previews are as good as their size allows."""

import itertools

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.detection import Detection
from imgpipeline.vision.annotate import (
    DrawnPath,
    class_colour,
    draw_detections,
    draw_paths,
    draw_preview,
    encode_jpeg,
    encode_preview,
    scaled,
)
from imgpipeline.vision.decode import ImageLimits, Pixels, decode_image

LIMITS = ImageLimits(10**7, 10**7)


def noise(width: int, height: int) -> Pixels:
    made = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(made, (0, 0), 1).astype(np.uint8)


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


@pytest.mark.parametrize("shape", [(1, 1, 3), (20, 30, 3), (2000, 3000, 3)])
def test_odd_labels_and_sizes_are_drawn(shape):
    box = (0.0, 0.0, float(shape[1]), float(shape[0]))
    found = [Detection(label, 3, 0.5, box) for label in ("", "Fußgänger 犬 🐕", "two\nlines", "x" * 300)]
    assert draw_detections(np.zeros(shape, np.uint8), found).shape == shape


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 360), (320, 180)), ((360, 640), (180, 320)), ((100, 50), (100, 50)), ((5000, 1), (320, 1))],
)
def test_a_preview_fits_into_the_side_it_is_given(size, expected):
    preview = encode_jpeg(np.full((size[1], size[0], 3), 90, np.uint8), 320, 80)
    image = decode_image(preview, LIMITS)
    assert (image.width, image.height) == expected


RED = (0, 0, 255)


def drawn(*paths: DrawnPath) -> np.ndarray:
    """Return which pixels of a grey image changed."""
    grey = np.full((120, 200, 3), 128, np.uint8)
    canvas = draw_paths(grey, paths)
    assert (grey == 128).all()
    return (canvas != 128).any(axis=2)


def test_a_path_goes_through_its_points_and_ends_in_a_dot():
    changed = drawn(DrawnPath([(20.0, 30.0), (100.0, 30.0), (100.0, 90.0)], RED))
    assert changed[30, 20:100].all()
    assert changed[30:90, 100].all()
    assert changed[60:80].any(axis=0).sum() < changed[88:93].any(axis=0).sum(), "the dot is wider than the line"
    assert not changed[:, 120:].any()


def test_the_first_path_is_on_top():
    canvas = draw_paths(
        np.zeros((50, 50, 3), np.uint8),
        [DrawnPath([(10, 25), (40, 25)], RED), DrawnPath([(25, 10), (25, 40)], (255, 0, 0))],
    )
    blue, _, red = canvas[25, 25]
    assert red > 200 > blue


def test_one_point_is_a_dot_and_none_is_nothing():
    assert drawn(DrawnPath([(50, 60)], RED))[60, 50]
    assert not drawn(DrawnPath([], RED)).any()


def test_the_best_quality_that_fits_is_chosen_or_else_the_lowest():
    pixels = noise(200, 200)
    for quality in (80, 50, 15):
        expected = encode_jpeg(pixels, 200, quality)
        assert encode_preview(pixels, 200, len(expected)) == expected
    assert encode_preview(pixels, 200, 10) == expected


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
