"""Pictures are put into a network as its authors do it, and boxes are mapped back exactly."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.vision.preprocess import make_blob
from imgpipeline.vision.registry import registered_model
from imgpipeline_tests.vision.pictures import detailed_picture

YOLOX, YOLOV4 = registered_model("yolox-nano"), registered_model("yolov4-tiny")


def test_a_stretched_picture_is_rgb_in_0_to_1_as_in_the_classic_opencv_recipe():
    pixels = detailed_picture(640, 480)
    expected = cv2.dnn.blobFromImage(pixels, 1 / 255, (416, 416), swapRB=True, crop=False)
    np.testing.assert_array_equal(make_blob(pixels, YOLOV4)[0], expected)


def test_a_letterbox_is_top_left_bgr_and_filled_with_114():
    pixels = detailed_picture(640, 360)
    canvas = np.full((416, 416, 3), 114, np.uint8)
    canvas[:234] = cv2.resize(pixels, (416, 234), interpolation=cv2.INTER_LINEAR)
    blob, _ = make_blob(pixels, YOLOX)
    assert (blob.dtype, blob.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(blob, cv2.dnn.blobFromImage(canvas))


@pytest.mark.parametrize("spec", [YOLOX, YOLOV4], ids=["letterbox", "stretch"])
def test_a_blob_that_is_written_over_keeps_nothing_of_the_picture_before(spec):
    blob, _ = make_blob(detailed_picture(300, 400), spec)
    for size in ((400, 300), (416, 416), (5, 900), (900, 5)):
        pixels = detailed_picture(*size, seed=2)
        again, _ = make_blob(pixels, spec, blob)
        assert again is blob
        np.testing.assert_array_equal(again, make_blob(pixels, spec)[0])


@settings(deadline=None)  # large pictures take their time on a busy machine
@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([YOLOX, YOLOV4]))
def test_a_box_around_everything_comes_back_as_the_whole_picture(width, height, spec):
    spec = dataclasses.replace(spec, input_width=96, input_height=64)
    pixels = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (height, width, 3))
    _, placement = make_blob(np.ascontiguousarray(pixels), spec)
    boxes = placement.to_picture(np.array([[0, 0, 96, 64], [-50, -50, 500, 500]], np.float32))
    np.testing.assert_allclose(boxes, [[0, 0, width, height]] * 2, rtol=1e-5)


def test_a_picture_may_be_a_view_of_another():
    pixels = detailed_picture(100, 80)
    view = pixels[10:60, 20:90]
    np.testing.assert_array_equal(make_blob(view, YOLOX)[0], make_blob(view.copy(), YOLOX)[0])
