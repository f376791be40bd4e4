"""Paths are drawn where their points are, with a dot at the end, on a copy of the image."""

import numpy as np

from imgpipeline.vision.paths import DrawnPath, draw_paths

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


def test_the_first_path_lies_on_top():
    canvas = draw_paths(
        np.zeros((50, 50, 3), np.uint8),
        [DrawnPath([(10, 25), (40, 25)], RED), DrawnPath([(25, 10), (25, 40)], (255, 0, 0))],
    )
    blue, _, red = canvas[25, 25]
    assert red > 200 > blue


def test_one_point_is_a_dot_and_none_is_nothing():
    assert drawn(DrawnPath([(50, 60)], RED))[60, 50]
    assert not drawn(DrawnPath([], RED)).any()
