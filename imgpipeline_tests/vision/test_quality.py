"""Two figures that tell black and blurred pictures from good ones, cheaply."""

import cv2
import numpy as np
import pytest

from imgpipeline.vision.quality import measure_quality
from imgpipeline_tests.vision.pictures import detailed_picture


@pytest.mark.parametrize("level", [0, 100, 255])
def test_row_4_5_a_plain_picture_has_its_level_as_brightness_and_no_sharpness(level):
    quality = measure_quality(np.full((50, 70, 3), level, np.uint8))
    assert quality.brightness == pytest.approx(level, abs=0.5)
    assert quality.sharpness == 0


def test_brightness_is_luma_and_not_the_mean_of_the_channels():
    green, blue = np.zeros((2, 10, 10, 3), np.uint8)
    green[..., 1], blue[..., 0] = 255, 255
    assert measure_quality(green).brightness == pytest.approx(0.587 * 255, abs=1)
    assert measure_quality(blue).brightness == pytest.approx(0.114 * 255, abs=1)


def test_the_more_blurred_the_less_sharp():
    picture = detailed_picture(640, 360)
    figures = [measure_quality(cv2.GaussianBlur(picture, (0, 0), sigma)).sharpness for sigma in (0.5, 1, 2, 4)]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > 10 * figures[-1]


def test_a_larger_camera_does_not_change_the_scale():
    small = detailed_picture(640, 360)
    large = cv2.resize(small, (2560, 1440), interpolation=cv2.INTER_NEAREST)
    assert measure_quality(large).sharpness == pytest.approx(measure_quality(small).sharpness, rel=0.05)
    assert measure_quality(large).brightness == pytest.approx(measure_quality(small).brightness, abs=0.5)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5000, 3), (5000, 1, 3), (3, 2, 3)])
def test_odd_shapes_are_measured(shape):
    quality = measure_quality(np.full(shape, 7, np.uint8))
    assert (round(quality.brightness), quality.sharpness) == (7, 0)
