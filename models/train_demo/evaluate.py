"""Measures the demo model on held-out scenes: `python -m models.train_demo.evaluate [--first-seed N] [--scenes N]`.

Decodes by itself on purpose: it is the second opinion on `imgpipeline.vision`, with which the tests measure.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from imgpipeline.contracts.detection import Detection
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import LABELS, Truth, countable, score_of
from imgpipeline.vision.agreement import Score
from models.train_demo import dataset
from models.train_demo.export import MODEL, SIDE_PX
from models.train_demo.network import points

CONFIDENCE, NMS = 0.5, 0.4
GRID = points(SIDE_PX, SIDE_PX)


def detect(session: onnxruntime.InferenceSession, image: NDArray[np.uint8], *, per_class: bool) -> list[Detection]:
    """Finds the objects in one picture, with NMS per class or over all classes together."""
    small, scale = dataset.letterbox(image, SIDE_PX, SIDE_PX)
    blob = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32)
    out = session.run(None, {"images": blob})[0][0]
    scores, class_ids = out[:, 4] * out[:, 5:].max(1), out[:, 5:].argmax(1)
    keep = scores > CONFIDENCE
    out, scores, class_ids, grid = out[keep], scores[keep], class_ids[keep], GRID[keep]
    centre, size = (out[:, :2] + grid[:, :2]) * grid[:, 2:], np.exp(out[:, 2:4]) * grid[:, 2:]
    limit = np.array(image.shape[1::-1])
    upper, lower = (np.clip((centre + sign * size / 2) / scale, 0, limit) for sign in (-1, 1))
    boxes = np.concatenate([upper, lower - upper], axis=1)
    groups = class_ids if per_class else np.zeros_like(class_ids)
    kept = (
        cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), groups.tolist(), CONFIDENCE, NMS) if len(boxes) else []
    )
    detections = []
    for i in kept:
        x, y, w, h = (float(v) for v in boxes[i])
        detections.append(Detection(LABELS[class_ids[i]], int(class_ids[i]), float(scores[i]), (x, y, w, h)))
    return detections


def frames(seeds: range, step: int, hour: float | None) -> Iterator[tuple[NDArray[np.uint8], list[Truth]]]:
    """Yields every `step`-th frame of the scenes."""
    for seed in seeds:
        scene = Scene(seed, hour=hour)
        yield from (scene.frame(number) for number in range(0, len(scene), step))


def report(title: str, score: Score) -> None:
    """Prints one line."""
    print(
        f"{title:24} objects {score.reference:6}  recall {score.recall:.4f}  precision {score.precision:.4f}"
        f"  missed {score.reference - score.matched:4}  false alarms {score.found - score.matched:4}",
        flush=True,
    )


def main() -> None:
    """Prints recall and precision by NMS mode and label, and how far the counts are off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--step", type=int, default=5, help="every n-th of the 50 frames of a scene")
    parser.add_argument("--hour", type=float, default=None, help="hour of the day (default: any)")
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    totals: Counter[str] = Counter()
    scores = {(mode, label): Score() for mode in (False, True) for label in LABELS}
    for image, truths in frames(range(args.first_seed, args.first_seed + args.scenes), args.step, args.hour):
        for mode in (False, True):
            found = detect(session, image, per_class=mode)
            for label in LABELS:
                mine = [t for t in truths if t.label == label]
                scores[mode, label] += score_of([d for d in found if d.label == label], mine)
                if not mode:
                    totals[f"{label} found"] += sum(d.label == label for d in found)
                    totals[f"{label} countable"] += sum(map(countable, mine))
                    totals[f"{label} in truth"] += len(mine)
    for mode, title in ((False, "NMS over all classes"), (True, "NMS per class")):
        report(title, sum((scores[mode, label] for label in LABELS), Score()))
        for label in LABELS:
            report(f"  {label}", scores[mode, label])
    print({key: totals[key] for key in sorted(totals)})


if __name__ == "__main__":
    main()
