"""Writes `models/demo.onnx` from the trained weights: `python -m models.train_demo.export`.

Checks that ONNX Runtime and OpenCV give the same raw output for it, and prints size, sha256 and times.
"""

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import LABELS
from models.train_demo import dataset
from models.train_demo.onnx_backend import make_model

MODEL = Path(__file__).parents[1] / "demo.onnx"
SIDE_PX = 416
TOLERANCE = 1e-3


def blob_of(seed: int) -> NDArray[np.float32]:
    """Gives one picture of a scene as the model's input."""
    image, _ = dataset.letterbox(Scene(seed).frame(20)[0], SIDE_PX, SIDE_PX)
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def median_ms(run: Callable[[], object], times: int = 50) -> float:
    """Median duration of a call in ms, the first five left out."""
    durations = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        durations.append(time.perf_counter() - start)
    return 1e3 * float(np.median(durations[5:]))


def main() -> None:
    """Exports, compares the two runtimes on twenty pictures, prints what README.md documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=dataset.FOLDER / "weights.npz")
    parser.add_argument("--model", type=Path, default=MODEL)
    args = parser.parse_args()
    content = make_model(np.load(args.weights), LABELS, SIDE_PX).SerializeToString(deterministic=True)
    args.model.write_bytes(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    net = cv2.dnn.readNetFromONNX(str(args.model))

    def by_opencv(blob: NDArray[np.float32]) -> NDArray[np.float32]:
        net.setInput(blob)
        return np.asarray(net.forward(), np.float32)

    worst = 0.0
    for seed in range(20):
        blob = blob_of(seed)
        worst = max(worst, float(np.abs(session.run(None, {"images": blob})[0] - by_opencv(blob)).max()))
    if worst > TOLERANCE:
        raise SystemExit(f"ONNX Runtime and OpenCV differ by {worst}, expected at most {TOLERANCE}")
    print(f"{args.model.name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    print(f"largest difference of the raw outputs, ONNX Runtime and OpenCV {cv2.__version__}: {worst:.1e}")
    by_ort, by_cv = median_ms(lambda: session.run(None, {"images": blob})), median_ms(lambda: by_opencv(blob))
    print(f"ms a frame: ONNX Runtime {by_ort:.1f}, OpenCV {by_cv:.1f}")


if __name__ == "__main__":
    main()
