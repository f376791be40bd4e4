"""Draws and announces the simulated streets of the demo.

The truth (which objects are in each frame) is written next to the images. The pipeline sees only the images.
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
CLIP_CAMERA = "crossing"
"""Source of the clip: a busy street, filmed fast enough to follow objects and count each of them once."""
CLIP_FRAMES = 100
CLIP_INTERVAL_S = 0.2
FIRST_SEED = 2_000
"""First seed of the demo's scenes, none of which the model was trained on."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SceneOfDay:
    """What one camera films in one period."""

    source: str
    """The camera."""
    start: datetime
    """Time of the first frame, UTC."""
    folder: Path
    """Where its frames and their truth are written."""
    scene: Scene
    """What the camera films."""
    interval_s: float
    """Seconds from frame to frame."""
    first_number: int
    """Number of its first frame within the camera."""


def plan_scenes(folder: Path, day: datetime) -> list[SceneOfDay]:
    """Returns the scenes of a day: one for each camera and hour, and the clip."""
    midnight = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    scenes = [
        SceneOfDay(
            source=camera,
            start=midnight + timedelta(hours=hour, minutes=5 * index),
            folder=folder / camera / f"{hour:02d}h",
            scene=Scene(FIRST_SEED + index * len(HOURS) + part, frames=FRAMES_A_SCENE, hour=hour),
            interval_s=INTERVAL_S,
            first_number=part * FRAMES_A_SCENE,
        )
        for part, hour in enumerate(HOURS)
        for index, camera in enumerate(CAMERAS)
    ]
    # Many objects hide each other for moments, so counting each of them once is not trivial.
    busy = Scene(FIRST_SEED + len(scenes), frames=CLIP_FRAMES, hour=12, objects=40, overlap=0.6)
    clip = SceneOfDay(
        source=CLIP_CAMERA,
        start=midnight + timedelta(hours=12, minutes=30),
        folder=folder / CLIP_CAMERA,
        scene=busy,
        interval_s=CLIP_INTERVAL_S,
        first_number=0,
    )
    return [*scenes, clip]


def simulate(scenes: list[SceneOfDay], progress: Progress) -> int:
    """Draws the frames of all scenes, writes their truth, and returns the number of frames."""
    total, done = _frames_of(scenes), 0
    for scene in scenes:
        progress(done, total)
        write_scene(
            scene.scene,
            scene.folder,
            source=scene.source,
            start=scene.start,
            interval_s=scene.interval_s,
            first_frame_number=scene.first_number,
        )
        done += len(scene.scene)
    progress(total, total)
    return total


def announce_scenes(settings: Settings, scenes: list[SceneOfDay], progress: Progress) -> int:
    """Stores and announces the frames of all scenes, and returns how many were announced."""
    total, announced = _frames_of(scenes), 0
    for scene in scenes:

        def step(done: int, _total: int, before: int = announced) -> None:
            progress(before + done, total)

        pace = Pace(scene.start, timedelta(seconds=scene.interval_s))
        announced += ingest_folder(settings, scene.folder, scene.source, pace=pace, progress=step).announced
    return announced


def read_truths(scenes: list[SceneOfDay]) -> Iterator[FrameTruth]:
    """Yields the truth of each frame."""
    for scene in scenes:
        yield from read_truth(scene.folder)


def _frames_of(scenes: list[SceneOfDay]) -> int:
    return sum(len(scene.scene) for scene in scenes)
