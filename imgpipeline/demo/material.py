"""The input of the demo: simulated streets with exact truth, or the user's own images or video.

Creates and announces it. The truth is written next to the images and never reaches the pipeline, which sees only the
images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from imgpipeline.settings import Settings
from imgpipeline.sources.folder import Pace, ingest_folder
from imgpipeline.sources.simulator import FrameTruth, Scene, read_truth, write_scene

CAMERAS = ("gate", "market", "yard")
"""Sources of the simulated frames."""
HOURS = (7, 12, 18, 23)
"""Hours of the day that are simulated, from morning light to night."""
FRAMES_A_SCENE = 50
INTERVAL_S = 20.0
FIRST_SEED = 2_000
"""The demo's scenes: none of them was used to train the model."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SceneOfDay:
    """One camera in one hour."""

    source: str
    """The camera."""
    start: datetime
    """Time of the first frame, UTC."""
    folder: Path
    """Where its frames and its truth are written."""
    seed: int
    """Of the scene."""
    first_number: int
    """Number of its first frame within the camera."""


def plan_scenes(folder: Path, day: datetime) -> list[SceneOfDay]:
    """Returns the scenes of a day: each camera in each hour."""
    midnight = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [
        SceneOfDay(
            source=camera,
            start=midnight + timedelta(hours=hour, minutes=5 * index),
            folder=folder / camera / f"{hour:02d}h",
            seed=FIRST_SEED + index * len(HOURS) + part,
            first_number=part * FRAMES_A_SCENE,
        )
        for part, hour in enumerate(HOURS)
        for index, camera in enumerate(CAMERAS)
    ]


def simulate(scenes: list[SceneOfDay], progress: Progress) -> int:
    """Draws the frames of all scenes and writes their truth; returns the number of frames."""
    for done, scene in enumerate(scenes):
        progress(done * FRAMES_A_SCENE, len(scenes) * FRAMES_A_SCENE)
        write_scene(
            Scene(scene.seed, frames=FRAMES_A_SCENE, hour=scene.start.hour),
            scene.folder,
            source=scene.source,
            start=scene.start,
            interval_s=INTERVAL_S,
            first_frame_number=scene.first_number,
        )
    total = len(scenes) * FRAMES_A_SCENE
    progress(total, total)
    return total


def announce_scenes(settings: Settings, scenes: list[SceneOfDay], progress: Progress) -> int:
    """Stores and announces the frames of all scenes; returns how many were announced."""
    total, announced = len(scenes) * FRAMES_A_SCENE, 0
    for scene in scenes:
        pace, step = Pace(scene.start, timedelta(seconds=INTERVAL_S)), _part_of(progress, announced, total)
        announced += ingest_folder(settings, scene.folder, scene.source, pace=pace, progress=step).announced
    return announced


def _part_of(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)


def read_truths(scenes: list[SceneOfDay]) -> Iterator[FrameTruth]:
    """Yields the truth of each frame."""
    for scene in scenes:
        yield from read_truth(scene.folder)
