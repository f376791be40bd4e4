"""Measures how far the demo model's counts are off: `python -m models.train_demo.count_error`.

A count is the number of detections of one label over all frames of a group of held-out scenes, as a page of the
demo shows it for an hour; the truth is the number of countable objects. Detections of objects that are too hidden
to count are part of the error: a user who sees only the count cannot take them out.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime

from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import LABELS, countable
from models.train_demo.evaluate import detect
from models.train_demo.export import MODEL

GROUPS = (1, 2, 4, 8)


def count_scene(session: onnxruntime.InferenceSession, scene: Scene) -> tuple[Counter[str], Counter[str]]:
    """Counts what is found and what is there, by label, over all frames."""
    found: Counter[str] = Counter()
    real: Counter[str] = Counter()
    for image, truths in scene:
        found.update(d.label for d in detect(session, image, per_class=False))
        real.update(t.label for t in truths if countable(t))
    return found, real


def main() -> None:
    """Prints median, 95th percentile and maximum of |found - real| / real by label and size of the group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=96)
    parser.add_argument("--frames", type=int, default=50)
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    seeds = range(args.first_seed, args.first_seed + args.scenes)
    scenes = [count_scene(session, Scene(seed, frames=args.frames)) for seed in seeds]
    total_found, total_real = (sum((scene[side] for scene in scenes), Counter()) for side in (0, 1))
    for label in LABELS:
        signed = total_found[label] / total_real[label] - 1
        print(f"{label:8} found {total_found[label]:6}  real {total_real[label]:6}  error {signed:+.4f}")
    for size in GROUPS:
        groups = [scenes[i : i + size] for i in range(0, len(scenes), size)]
        for label in LABELS:
            counts = [[sum(scene[side][label] for scene in group) for side in (0, 1)] for group in groups]
            errors = [abs(found - real) / real for found, real in counts if real]
            worst = max(abs(found - real) for found, real in counts)
            median, high = np.percentile(errors, (50, 95))
            print(
                f"{size} scenes of {args.frames} frames, {label:8} median {median:.3f}  95 % {high:.3f}"
                f"  max {max(errors):.3f}  largest difference {worst}"
            )


if __name__ == "__main__":
    main()
