"""Measures how fast a model runs on this machine, for `imgpipeline models bench`.

Each installed backend and number of threads is measured in turn: `Detector.detect`, which is the work of a run, and
inference alone.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from imgpipeline.contracts.detection import DecoderName
from imgpipeline.vision.backends import installed_backends
from imgpipeline.vision.decode import Pixels
from imgpipeline.vision.detector import Detector, load_detector
from imgpipeline.vision.preprocess import make_blob


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One backend with one number of threads."""

    backend: str
    """Name of the backend."""
    threads: int
    """Threads a picture, >= 1."""
    median_ms: float
    """Of one picture: preprocessing, inference, decoding, suppression."""
    p95_ms: float
    """95th percentile of the same."""
    inference_median_ms: float
    """Of the network alone."""
    load_s: float
    """Reading the model's file and making it ready."""
    detections: int
    """How many objects were found; the same number in all rows, or a backend is wrong."""


def bench_model(  # noqa: PLR0913 - one argument a setting, all by name
    model: str,
    pixels: Pixels,
    *,
    backends: Sequence[str] | None = None,
    threads: Sequence[int] | None = None,
    rounds: int = 50,
    decoder: DecoderName | None = None,
    labels: Sequence[str] | Path | None = None,
    model_dir: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[BenchRow]:
    """Measures a model in each backend; a row comes as soon as it is measured.

    Args:
        model: A registered name, or the path of an ONNX file.
        pixels: The picture, uint8 [height, width, 3], BGR.
        backends: Names; None: all that are installed, the fastest first.
        threads: Numbers of threads; None: 1, and all cores.
        rounds: Pictures that are timed, after a tenth of them (at least 3) to warm up.
        decoder: The output's layout, for a path.
        labels: Class names or their file, for a path.
        model_dir: Folder of downloaded models.
        clock: Seconds, monotonic.

    Yields:
        One row a backend and number of threads.

    Raises:
        ConfigurationError: There is no such model or backend.
        PermanentError: A backend cannot run the model.
    """
    opencv_threads = cv2.getNumThreads()
    try:
        for backend in backends if backends is not None else installed_backends():
            for count in threads if threads is not None else sorted({1, os.cpu_count() or 1}):
                cv2.setNumThreads(count)  # preprocessing is OpenCV's, whatever runs the network
                start = clock()
                detector = load_detector(
                    model, backend=backend, threads=count, decoder=decoder, labels=labels, model_dir=model_dir
                )
                yield _measure(detector, pixels, count, rounds, clock() - start, clock)
    finally:
        cv2.setNumThreads(opencv_threads)


def _measure(
    detector: Detector, pixels: Pixels, threads: int, rounds: int, load_s: float, clock: Callable[[], float]
) -> BenchRow:
    blob, _ = make_blob(pixels, detector.spec)
    found = detector.detect(pixels)
    whole_ms = _time(lambda: detector.detect(pixels), rounds, clock)
    inference_ms = _time(lambda: detector.backend.infer(blob), rounds, clock)
    return BenchRow(
        backend=detector.backend_name,
        threads=threads,
        median_ms=statistics.median(whole_ms),
        p95_ms=sorted(whole_ms)[min(len(whole_ms) - 1, int(0.95 * len(whole_ms)))],
        inference_median_ms=statistics.median(inference_ms),
        load_s=load_s,
        detections=len(found),
    )


def _time(work: Callable[[], object], rounds: int, clock: Callable[[], float]) -> list[float]:
    for _ in range(max(3, rounds // 10)):
        work()
    times_ms = []
    for _ in range(rounds):
        start = clock()
        work()
        times_ms.append(1e3 * (clock() - start))
    return times_ms
