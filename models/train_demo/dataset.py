"""Training images: rendered once from the simulator, kept as NumPy files under `models/training`.

Seeds from `FIRST_TRAINING_SEED` up are for training; everything below is held out.
"""

import hashlib
import multiprocessing
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from imgpipeline.sources import simulator
from imgpipeline.sources.simulator.scene import FIRST_TRAINING_SEED, Scene
from imgpipeline.sources.simulator.truth import LABELS, countable

FOLDER = Path(__file__).parents[1] / "training"
WIDTH, HEIGHT = 416, 256
"""Training sees the letterboxed 416 x 416 without most of its grey padding: the network is convolutional."""
MAX_BOXES = 16
PER_SCENE = 2


def letterbox(image: NDArray[np.uint8], width: int, height: int) -> tuple[NDArray[np.uint8], float]:
    """Scales to fit, top left, the rest is 114; also returns the factor."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = int(image.shape[1] * scale), int(image.shape[0] * scale)
    out = np.full((height, width, 3), 114, np.uint8)
    out[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return out, scale


def render(seed: int, clutter: int) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Renders a few frames of one scene, harder than what the model will be shown.

    There are more objects, which hide each other more, and it is darker on average.

    Args:
        seed: Chooses the scene; every third one is at night, the others at any hour.
        clutter: Times as many trees, bins, lamps and signs as usual.

    Returns:
        Pairs of picture [256, 416, 3] and boxes [16, 6]: x1, y1, x2, y2 in px, class id (-1: none), countable.
    """
    cv2.setNumThreads(1)
    scene = Scene(seed, hour=0 if seed % 3 == 0 else None, objects=12, overlap=0.5, clutter=clutter)
    samples = []
    for number in np.random.default_rng(seed).choice(scene.frames, PER_SCENE, replace=False):
        image, truths = scene.frame(int(number))
        small, scale = letterbox(image, WIDTH, HEIGHT)
        boxes = np.full((MAX_BOXES, 6), -1, np.float32)
        for i, truth in enumerate(truths[:MAX_BOXES]):
            boxes[i] = *(np.array(truth.box_xyxy) * scale), LABELS.index(truth.label), countable(truth)
        samples.append((small, boxes))
    return samples


def load(frames: int, clutter: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Gives the training pictures; renders them where they are missing or the simulator has changed.

    Args:
        frames: How many.
        clutter: Times as many trees, bins, lamps and signs as usual.

    Returns:
        Pictures [frames, 256, 416, 3] (mapped, not in memory) and boxes [frames, 16, 6].
    """
    sources = [*sorted(Path(simulator.__file__).parent.glob("*.py")), Path(__file__)]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    pictures, boxes = (FOLDER / f"{digest}-{frames}-{clutter}.{part}.npy" for part in ("pictures", "boxes"))
    if not boxes.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        render_all(frames, clutter, pictures, boxes)
    return np.load(pictures, mmap_mode="r"), np.load(boxes)


def render_all(frames: int, clutter: int, pictures: Path, boxes: Path) -> None:
    """Renders on all cores into two files; the boxes appear last, which says that both are whole."""
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + frames // PER_SCENE)
    shape = (len(seeds) * PER_SCENE, HEIGHT, WIDTH, 3)
    into = np.lib.format.open_memmap(pictures, mode="w+", dtype=np.uint8, shape=shape)
    rows: list[NDArray[np.float32]] = []
    with multiprocessing.get_context("spawn").Pool() as pool:
        for scene in pool.imap(partial(render, clutter=clutter), seeds, 16):
            for picture, row in scene:
                into[len(rows)] = picture
                rows.append(row)
    into.flush()
    np.save(boxes, np.stack(rows))
