"""Looking at a whole day again: whether there is anything to do, and until it is done.

Owns `redetections/model=…/day=…`. It promises:

* The result has one outcome for each row of the day's stored table `frames`, of one version of it; both objects name
  that version. A day that is current is skipped; of one that has late frames only those are looked at (and those that
  failed), the rest is taken over.
* Killed at any moment it goes on where it stopped: what was found is kept in parts (`parts`), and both objects are put
  when all is there, each whole, over the version that was read before. `detections` comes last: the two belong together
  where their manifests are equal.
* Any number of processes may work on one day. They share the parts: each takes them in an order of its own, leaves out
  those that are there, and does last what another has begun. What two of them make is the same twice, and kept once.
"""

import os
import socket
import time
from dataclasses import dataclass
from datetime import date

from imgpipeline.contracts.keys import day_table_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.day_tables import list_days
from imgpipeline.lake.engine import open_engine
from imgpipeline.lake.nearest_days import name_nearest_days, nearest_day
from imgpipeline.lake.tables import FRAMES, SCHEMA_VERSION
from imgpipeline.ledger import known_days
from imgpipeline.objectstore import Fetched, ObjectMissingError, ObjectStore
from imgpipeline.redetect.attempt import DayAttempt, Progress, Redetector
from imgpipeline.redetect.choice import ModelChoice, load_chosen
from imgpipeline.redetect.footers import read_footer
from imgpipeline.redetect.manifest import RedetectionManifest, read_redetection, recipe_of
from imgpipeline.redetect.parts import remove_parts
from imgpipeline.settings import Clock, Settings

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Redetection:
    """How a day was looked at again, or that there was nothing to do."""

    manifest: RedetectionManifest
    """What is stored now."""
    skipped: bool
    """Whether it was there already."""
    looked_at: int
    """Pictures that this call has looked at."""
    size_bytes: int
    """Size of both objects."""
    duration_s: float
    """How long this call took, in seconds."""

    @property
    def frames_per_s(self) -> float:
        """Pictures a second of this call."""
        return self.looked_at / self.duration_s if self.duration_s else 0.0


def open_redetector(settings: Settings, store: ObjectStore, choice: ModelChoice, clock: Clock) -> Redetector:
    """Loads a model to look at days again with; errors as `load_chosen`."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return Redetector(settings, store, str(choice), load_chosen(choice, settings), clock, worker)


def redetect_day(
    redetector: Redetector, day: date, *, force: bool = False, progress: Progress = lambda _done, _all: None
) -> Redetection:
    """Brings the redetection of a day up to its frames.

    Args:
        redetector: The model, the store.
        day: UTC day.
        force: Look at every picture again, whatever is there; parts of a run that was killed are still used.
        progress: Told how far it is, in the calling thread.

    Returns:
        What is stored now.

    Raises:
        PermanentError: The day has no table `frames`, a stored object is none of this project, the detector does
            not work, or the local disk is full.
        TransientError: The store does not answer, or others were faster time and again.
    """
    began_s, looked_at, store, model = time.perf_counter(), 0, redetector.store, redetector.model
    recipe = recipe_of(redetector.detector, redetector.settings)
    for _ in range(_ATTEMPTS):
        # The result's version first: then the frames read after it are never older than those it was made of.
        before = read_redetection(store, model, day)
        source = read_footer(store, day_table_key(FRAMES.name, day))
        if source is None:
            raise _no_frames(redetector, day)
        whole = before.whole
        if whole is not None and not force and _is_current(whole, source.e_tag, recipe):
            remove_parts(store, model, day)
            progress(whole.frames, whole.frames)
            return Redetection(whole, looked_at == 0, looked_at, before.size_bytes, time.perf_counter() - began_s)
        with open_engine() as engine:
            attempt = DayAttempt(
                redetector, engine, day, recipe, before, _fetch_frames(redetector, day), reuses=not force
            )
            done = attempt.run(progress)
        looked_at += attempt.looked_at
        if done is not None:
            remove_parts(store, model, day)
            manifest, size_bytes = done
            return Redetection(manifest, False, looked_at, size_bytes, time.perf_counter() - began_s)
        force = False  # somebody else has put a result since
    raise TransientError(f"{_ATTEMPTS} redetections of {day} by {model} were overtaken by others; it is theirs.")


def _fetch_frames(redetector: Redetector, day: date) -> Fetched:
    try:
        return redetector.store.fetch(day_table_key(FRAMES.name, day))
    except ObjectMissingError:
        raise _no_frames(redetector, day) from None


def _is_current(whole: RedetectionManifest, e_tag: str, recipe: str) -> bool:
    return (whole.made_of, whole.made_by, whole.schema_version) == (e_tag, recipe, SCHEMA_VERSION)


def _no_frames(redetector: Redetector, day: date) -> PermanentError:
    if day in known_days(redetector.store):
        select = f"--select frames,detections --partition {day}"
        return PermanentError(
            f"{day} cannot be re-processed: its table `frames` has not been built yet.",
            next_step=f"dagster asset materialize -m imgpipeline.definitions {select}",
        )
    days = list(list_days(redetector.store, FRAMES.name))
    return PermanentError(
        f"There are no frames of {day} to re-process. Days with a table `frames`: {name_nearest_days(days, day)}.",
        next_step=f"imgpipeline redetect --model {redetector.model} --day {nearest_day(days, day)}" if days else None,
    )
