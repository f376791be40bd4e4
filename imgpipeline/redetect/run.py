"""Re-processes a whole day with another model, if there is anything to do.

* The result has one outcome for each row of one version of the day's stored table `frames`; both objects name that
  version. A current day is skipped. If a day got late frames, only these and the failed frames are processed.
* If the process is killed, the next one continues where it stopped: results are stored in parts (`parts`), and both
  objects are written once all parts exist. `detections` comes last; the two belong together if their manifests are
  equal.
* Any number of processes may work on one day and share the parts. Each takes them in a different order, skips existing
  ones, and leaves those that another process started for last. If two make the same part, both are equal, and one is
  kept.
"""

import os
import socket
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.contracts.times import Clock
from imgpipeline.errors import PermanentError
from imgpipeline.lake.build.day_tables import list_days
from imgpipeline.lake.build.derived import Derived, Made, Origin, Start, build
from imgpipeline.lake.query.days import name_nearest_days, nearest_day
from imgpipeline.lake.schema import FRAMES
from imgpipeline.lake.storage.engine import Engine, disk_errors, open_engine
from imgpipeline.lake.storage.manifest import read_stored
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.ledger import known_days
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.redetect.attempt import DayAttempt, Progress, Redetector
from imgpipeline.redetect.choice import ModelChoice, load_chosen
from imgpipeline.redetect.manifest import RedetectionManifest, Stored, read_redetection, recipe_of
from imgpipeline.redetect.parts import remove_parts
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Redetection:
    """How a day was re-processed, or that there was nothing to do."""

    manifest: RedetectionManifest
    """The manifest of the stored result."""
    skipped: bool
    """Whether the result was already current."""
    looked_at: int
    """Number of images that this call processed."""
    size_bytes: int
    """Size of both objects."""
    duration_s: float
    """How long this call took, in seconds."""

    @property
    def frames_per_s(self) -> float:
        """Images per second of this call."""
        return self.looked_at / self.duration_s if self.duration_s else 0.0


def open_redetector(settings: Settings, store: ObjectStore, choice: ModelChoice, clock: Clock) -> Redetector:
    """Loads a model for re-processing days; errors as `load_chosen`."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return Redetector(settings, store, str(choice), load_chosen(choice, settings), clock, worker)


def redetect_day(
    redetector: Redetector, day: date, *, force: bool = False, progress: Progress = lambda _done, _all: None
) -> Redetection:
    """Updates the redetection of a day to its frames.

    Args:
        redetector: The model and the store.
        day: UTC day.
        force: Process every image again, even if there are results; parts of a killed run are still used.
        progress: Called in the calling thread.

    Raises:
        PermanentError: The day has no table `frames`, a stored object does not belong to this project, the detector
            does not work, or the local disk is full.
        TransientError: The store does not answer, or the build lost the write race repeatedly.
    """
    began_s = time.perf_counter()
    entry = DayRedetection(redetector, day, progress)
    done = build(entry, force=force)
    remove_parts(redetector.store, redetector.model, day)
    manifest, *_ = done.manifests.values()
    if done.skipped:
        progress(manifest.frames, manifest.frames)
    skipped = done.skipped and entry.looked_at == 0
    return Redetection(manifest, skipped, entry.looked_at, done.size_bytes, time.perf_counter() - began_s)


class DayRedetection(Derived[RedetectionManifest]):
    """The redetection of a day with one model as a derived object. Its input is the day's table `frames`."""

    insists = False

    def __init__(self, redetector: Redetector, day: date, progress: Progress) -> None:
        """Prepares the redetection; nothing is read yet.

        Args:
            redetector: The model and the store.
            day: UTC day.
            progress: Called with the progress.
        """
        self.store = redetector.store
        self.looked_at = 0
        self._redetector = redetector
        self._day = day
        self._progress = progress
        self._recipe = recipe_of(redetector.detector, redetector.settings)

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"the redetection of {self._day} by {self._redetector.model}"

    def read(self) -> Stored:
        """Returns the stored objects."""
        return read_redetection(self.store, self._redetector.model, self._day)

    def origin(self, manifest: RedetectionManifest, /) -> Origin:
        """Returns the version of `frames` it was built from, and its recipe."""
        return Origin({FRAMES.name: manifest.made_of}, manifest.made_by)

    def wanted(self, _stored: Stored, /) -> Origin:
        """Returns the version of the stored table `frames`."""
        source = read_stored(self.store, day_table_key(FRAMES.name, self._day))
        if source is None:
            raise _no_frames(self._redetector, self._day)
        return Origin({FRAMES.name: source.manifest.version}, self._recipe)

    def belong_together(self, manifests: list[RedetectionManifest], /) -> bool:
        """Returns whether both objects were written by one build."""
        return all(manifest == manifests[0] for manifest in manifests)

    def make(self, start: Start[RedetectionManifest], /) -> dict[str, Made[RedetectionManifest]] | None:
        """Processes the frames that have no outcome yet."""
        with open_engine(memory=self._redetector.settings.duckdb_memory) as engine:
            frames = self._fetch_frames(engine)
            attempt = DayAttempt(
                self._redetector, engine, self._day, self._recipe, start.stored, frames, reuses=not start.force
            )
            made = attempt.run(self._progress)
        self.looked_at += attempt.looked_at
        return made

    def _fetch_frames(self, engine: Engine) -> Path:
        path = engine.folder / "frames-read.parquet"
        try:
            with disk_errors(engine.folder):
                fetch_table(self.store, day_table_key(FRAMES.name, self._day), path)
        except ObjectMissingError:
            raise _no_frames(self._redetector, self._day) from None
        return path


def _no_frames(redetector: Redetector, day: date) -> PermanentError:
    if day in known_days(redetector.store):
        select = f"--select frames,detections --partition {day}"
        return PermanentError(
            f"{day} cannot be re-processed: its table `frames` has not been built yet.",
            next_step=f"dagster asset materialize -m imgpipeline.definitions {select}",
        )
    days = list(list_days(redetector.store, FRAMES.name))
    return PermanentError(
        f"{day} has no frames to re-process. Days with a table `frames`: {name_nearest_days(days, day)}.",
        next_step=f"imgpipeline redetect --model {redetector.model} --day {nearest_day(days, day)}" if days else None,
    )
