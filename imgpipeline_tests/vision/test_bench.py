"""The bench measures every backend and number of threads, and leaves the process as it was."""

import itertools

import cv2
import pytest

from imgpipeline.vision.backends import installed_backends
from imgpipeline.vision.bench import bench_model
from imgpipeline_tests.vision.pictures import detailed_picture


@pytest.mark.medium
def test_every_backend_and_number_of_threads_gets_a_row(small_onnx):
    before = cv2.getNumThreads()
    rows = list(
        bench_model(
            str(small_onnx), detailed_picture(), threads=[1, 2], rounds=5, decoder="yolov4", labels=["a", "b", "c"]
        )
    )
    assert [(row.backend, row.threads) for row in rows] == list(itertools.product(installed_backends(), [1, 2]))
    assert len({row.detections for row in rows}) == 1
    for row in rows:
        assert row.inference_median_ms > 0
        assert 0 < row.median_ms <= row.p95_ms
        assert row.load_s > 0
    assert cv2.getNumThreads() == before


def test_times_are_those_of_the_given_clock(small_onnx):
    ticks = itertools.count()
    (row,) = bench_model(
        str(small_onnx), detailed_picture(), backends=["onnxruntime"], threads=[1], rounds=4, decoder="yolov4",
        labels=["a", "b", "c"], clock=lambda: float(next(ticks)),
    )  # fmt: skip
    assert (row.median_ms, row.p95_ms, row.load_s) == (1000, 1000, 1)
