"""A picture is decoded as small as its uses allow, and never smaller."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.vision.reduction import NetworkInput, choose_reduction, measured_reduction

LETTERBOX = NetworkInput(416, 416, "letterbox")
STRETCH = NetworkInput(416, 416, "stretch")


@pytest.mark.parametrize(
    ("size", "letterbox", "stretch"),
    [
        ((640, 360), 1, 1),
        ((831, 500), 1, 1),
        ((832, 500), 2, 1),
        ((832, 832), 2, 2),
        ((1280, 720), 2, 1),
        ((720, 1280), 2, 1),
        ((1920, 1080), 4, 2),
        ((3840, 2160), 8, 4),
        ((8000, 6000), 8, 8),
    ],
)
def test_the_side_that_decides_is_the_longer_in_a_letterbox_and_the_shorter_where_it_is_stretched(
    size, letterbox, stretch
):
    assert choose_reduction(*size, LETTERBOX) == letterbox
    assert choose_reduction(*size, STRETCH) == stretch


def test_a_small_network_does_not_make_the_picture_smaller_than_its_quality_is_measured_at():
    assert choose_reduction(640, 360, NetworkInput(64, 64, "letterbox")) == 1
    assert choose_reduction(1280, 720, NetworkInput(64, 64, "letterbox")) == 2
    assert [measured_reduction(side, 10) for side in (1, 640, 641, 1280, 1281, 2560, 5121)] == [1, 1, 2, 2, 4, 4, 16]


@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([LETTERBOX, STRETCH]))
def test_nothing_is_ever_enlarged_again(width, height, wanted):
    reduction = choose_reduction(width, height, wanted)
    if reduction > 1:
        placed = wanted.placed_size(width, height)
        assert width // reduction >= placed[0]
        assert height // reduction >= placed[1]
        assert measured_reduction(width, height) % reduction == 0
