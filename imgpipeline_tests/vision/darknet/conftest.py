"""OpenCV 4 in a separate environment: the last version that reads Darknet's files itself."""

import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from imgpipeline_tests.servers.programs import cache_folder

OPENCV4 = "4.14.0"
ORACLE = Path(__file__).with_name("oracle.py")


@dataclass(frozen=True, slots=True)
class OracleResult:
    """What OpenCV 4 makes of a Darknet network and a picture."""

    raw: np.ndarray
    """[boxes, 5 + classes]: centre, size, objectness, score of each class (0 where it is 0.2 or less)."""
    boxes_xywh: np.ndarray
    """[n, 4] in pixels of the picture, after suppression, not cut at its border."""
    scores: np.ndarray
    """[n]."""
    class_ids: np.ndarray
    """[n]."""
    candidates: int
    """Boxes above the threshold, before suppression."""


@pytest.fixture(scope="session")
def opencv4_python() -> Path:
    """The python of an environment with OpenCV 4; made once and kept in the cache."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_folder() / f"opencv-{OPENCV4}-{version}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = [f"opencv-python-headless~={OPENCV4}.0", "numpy"]
        made = subprocess.run(
            [python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"no environment with OpenCV {OPENCV4}; pip says: {made.stderr[-300:]}")
        ready.touch()
    return python


@pytest.fixture
def oracle(opencv4_python: Path, tmp_path: Path) -> Callable[..., OracleResult]:
    """Run OpenCV 4: `oracle(cfg, weights, picture, confidence=0.5, nms=0.4)`."""

    def run(cfg: Path, weights: Path, picture: Path, *, confidence: float, nms: float) -> OracleResult:
        out = tmp_path / "oracle.npz"
        arguments = [cfg, weights, picture, out, confidence, nms]
        subprocess.run([opencv4_python, ORACLE, *map(str, arguments)], check=True, timeout=120)
        found = np.load(out)
        assert str(found["version"]).startswith("4.")
        raw = [found[f"raw{index}"] for index in range(sum(name.startswith("raw") for name in found.files))]
        flat = np.concatenate([output.reshape(-1, output.shape[-1]) for output in raw])
        return OracleResult(flat, found["boxes"], found["scores"], found["class_ids"], int(found["candidates"]))

    return run
