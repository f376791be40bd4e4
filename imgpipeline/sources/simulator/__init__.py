"""Simulated streets with exact truth: the demo's camera, and what the demo model was trained on.

    for image, truths in Scene(seed=1, hour=22.5):
        ...

Only `writer` does I/O, NumPy and OpenCV are the only dependencies, and the same seed gives the same bytes. A folder of
simulated frames is ingested like any other.
"""

from imgpipeline.sources.simulator.scene import FIRST_TRAINING_SEED, Scene, brightness_at
from imgpipeline.sources.simulator.truth import LABELS, Truth, countable
from imgpipeline.sources.simulator.writer import TRUTH_NAME, FrameTruth, read_truth, write_scene

__all__ = [
    "FIRST_TRAINING_SEED",
    "LABELS",
    "TRUTH_NAME",
    "FrameTruth",
    "Scene",
    "Truth",
    "brightness_at",
    "countable",
    "read_truth",
    "write_scene",
]
