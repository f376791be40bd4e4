"""Simulated streets whose content is known exactly: the demo's cameras, and the training data of the demo model.

    for image, truths in Scene(seed=1, hour=22.5):
        ...

The same seed gives the same bytes. A folder of simulated frames is ingested like any other.
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
