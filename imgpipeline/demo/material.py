"""What the demo films: simulated streets, drawn as images or streamed by RTSP cameras (`--cameras N`).

The truth (which objects are in each frame) is written next to the images. The pipeline sees only the images. The
cameras drop frames and have an outage on purpose.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.table import Table

from imgpipeline.demo.servers import free_port
from imgpipeline.lake.query.books import BookEntry, read_books
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.folder import Pace, open_folder
from imgpipeline.sources.ingest import ingest_all, ingest_files
from imgpipeline.sources.options import PublishOptions, default_options
from imgpipeline.sources.protocol import Captured, Settled, Source, SourceKind, StatusChange
from imgpipeline.sources.rtsp import RtspSource
from imgpipeline.sources.simulator.rtsp_simulator import RtspSimulator, SimulatedCamera, write_scene_clip
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.writer import FrameTruth, write_scene

CAMERAS = ("gate", "market", "yard")
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
    start: datetime
    folder: Path
    scene: Scene
    interval_s: float
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


def simulate(scenes: list[SceneOfDay], progress: Progress) -> list[FrameTruth]:
    """Draws the frames of all scenes, and returns and writes the truth of each."""
    total = _frames_of(scenes)
    truths: list[FrameTruth] = []
    for scene in scenes:
        progress(len(truths), total)
        truths += write_scene(
            scene.scene,
            scene.folder,
            source=scene.source,
            start=scene.start,
            interval_s=scene.interval_s,
            first_frame_number=scene.first_number,
        )
    progress(total, total)
    return truths


def announce_scenes(settings: Settings, scenes: list[SceneOfDay], progress: Progress) -> int:
    """Stores and announces the frames of all scenes, and returns how many were announced."""
    total, announced = _frames_of(scenes), 0
    for scene in scenes:

        def step(done: int, _total: int, before: int = announced) -> None:
            progress(before + done, total)

        source = open_folder(settings, scene.folder, scene.source, Pace(scene.start, scene.interval_s))
        announced += ingest_files(settings, source, progress=step).announced
    return announced


def _frames_of(scenes: list[SceneOfDay]) -> int:
    return sum(len(scene.scene) for scene in scenes)


LIVE_S = 60.0
"""How long the cameras run."""
_FPS = 5.0
_SCENE_FRAMES = 50
_BURST = 10
_OUTAGE_S = (20.0, 30.0)
"""Start and end of the RTSP server's outage, in seconds."""


class _InBursts:
    """A source whose frames arrive in bursts, as over an unsteady radio link."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self.name, self.kind = inner.name, inner.kind

    def capture(self, stop: threading.Event) -> Iterator[Captured]:
        """Yields the items of the source, one burst after another."""
        burst: list[Captured] = []
        for item in self._inner.capture(stop):
            burst.append(item)
            if len(burst) == _BURST or isinstance(item, StatusChange):
                yield from burst
                burst.clear()
        yield from burst


def write_cameras(folder: Path, count: int) -> list[SimulatedCamera]:
    """Writes the scene of each camera as a clip."""
    folder.mkdir(parents=True, exist_ok=True)
    plans = []
    for number in range(1, count + 1):
        name, scene = f"cam{number}", Scene(number, frames=_SCENE_FRAMES, hour=12.0)
        clip = write_scene_clip(scene, folder, name=name, codec="mjpeg", fps=_FPS)
        plans.append(SimulatedCamera(name, str(clip.resolve()), "mjpeg", _FPS))
    return plans


def run_cameras(
    settings: Settings, cameras: list[SimulatedCamera], board: Board, step: Callable[[int, int], None]
) -> int:
    """Streams and publishes the cameras for a minute; the first one drops frames, and the server is down for 10 s.

    Returns:
        How many frames were announced.
    """
    stop = threading.Event()
    simulator = RtspSimulator(cameras, port=free_port())
    options = default_options(SourceKind.LIVE)
    simulator.start()
    streams = [RtspSource(camera.path, simulator.url(camera.path)) for camera in cameras]
    # A burst never fits into a queue of one frame, so the first camera drops frames however fast the machine is.
    tight = (_InBursts(streams[0]), replace(options, queue_frames=1, writers=1))
    sources: list[tuple[Source, PublishOptions]] = [tight, *((stream, options) for stream in streams[1:])]
    publishing = threading.Thread(target=ingest_all, args=(settings, sources, stop, board))
    publishing.start()
    try:
        _let_run(simulator, stop, step)
    finally:
        stop.set()
        publishing.join()
        simulator.stop()
    return sum(status.settled.get(Settled.ANNOUNCED, 0) for status in board.statuses())


def check_books(store: ObjectStore, settings: Settings) -> tuple[list[BookEntry], list[str]]:
    """Returns the accounts of all cameras, and their problems."""
    entries = list(read_books(store, settings))
    problems = [f"the accounts of {entry.source} do not close" for entry in entries if not entry.balances]
    if not any(entry.dropped for entry in entries):
        problems.append("no frame was dropped, although the queue of the first camera is too short for its bursts")
    return entries, problems


def show_books(entries: list[BookEntry], console: Console) -> None:
    """Shows the accounts as a table."""
    table = Table(title="Accounts: received = announced + gated + dropped + failed", title_justify="left")
    table.add_column("camera")
    for heading in ("received", "announced", "in ledger", "gated", "dropped", "failed", "difference", "observed s"):
        table.add_column(heading, justify="right")
    for entry in entries:
        dropped = ", ".join(f"{reason} {count}" for reason, count in entry.dropped.items()) or "0"
        numbers = (entry.received, entry.announced, entry.in_ledger, entry.gated, dropped, entry.failed)
        table.add_row(entry.source, *map(str, numbers), str(entry.difference), f"{entry.observed_s or 0:.0f}")
    console.print(table)


def _let_run(simulator: RtspSimulator, stop: threading.Event, step: Callable[[int, int], None]) -> None:
    began_s, is_away = monotonic(), False
    while (over_s := monotonic() - began_s) < LIVE_S:
        step(round(over_s), round(LIVE_S))
        should_be_away = _OUTAGE_S[0] <= over_s < _OUTAGE_S[1]
        if should_be_away and not is_away:
            simulator.stop()
        if is_away and not should_be_away:
            simulator.start()
        is_away = should_be_away
        stop.wait(0.5)
    step(round(LIVE_S), round(LIVE_S))
