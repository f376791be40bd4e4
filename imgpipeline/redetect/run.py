"""Re-processes a whole day with another model, if there is anything to do.

* The result has one outcome for each row of one version of the day's stored table `frames`; both objects name that
  version. A current day is skipped. If a day got late frames, only these and the failed frames are processed.
* If the process is killed, the next one continues where it stopped: results are stored in parts, and both
  objects are written once all parts exist. `detections` comes last; the two belong together if their manifests are
  equal.
* Any number of processes may work on one day and share the parts. Each takes them in a different order, skips existing
  ones, and leaves those that another process started for last. A process renews the notes of its parts while it works.
  With `--shared`, the others wait for it, and one of them takes over a part whose note stands still. If two make the
  same part, both are equal, and one is kept.
"""

import logging
import os
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imgpipeline.contracts.keys import (
    begun_note_key,
    day_table_key,
    redetection_key,
    redetection_part_key,
    redetection_parts_prefix,
)
from imgpipeline.contracts.times import Clock
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.days.day_tables import list_days
from imgpipeline.lake.days.derived import Derived, Made, Origin, Start, build
from imgpipeline.lake.query.days import name_nearest_days, nearest_day
from imgpipeline.lake.schema.redetections import REDETECTIONS
from imgpipeline.lake.storage.engine import Engine, disk_errors, open_engine
from imgpipeline.lake.storage.manifest import hash_rows, parse_footer, read_stored, write_rows
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.ledger.days import known_days
from imgpipeline.objectstore import ImageReader, ObjectMissingError, ObjectStore
from imgpipeline.redetect.choice import ModelChoice, load_chosen
from imgpipeline.redetect.frames import DayFrames, FrameOutcome, FrameProcessor, FrameResult, FrameToProcess
from imgpipeline.redetect.manifest import (
    DETECTIONS,
    FRAMES,
    RedetectionManifest,
    Stored,
    read_redetection,
    recipe_of,
    whole,
)
from imgpipeline.settings import Settings
from imgpipeline.vision.detector import Detector, self_test

_BOX = pa.struct(
    [
        ("label", pa.string()),
        ("class_id", pa.int32()),
        ("confidence", pa.float64()),
        *((name, pa.float64()) for name in ("x", "y", "width", "height")),
    ]
)
_SCHEMA = pa.schema(
    [
        ("frame_id", pa.string()),
        ("source_image_path", pa.string()),
        ("outcome", pa.string()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("detections", pa.list_(_BOX)),
    ],
)


def part_key(model: str, day: date, recipe: str, frames: Sequence[FrameToProcess]) -> str:
    """Returns the key of the part with these frames."""
    digest = sha256()
    for frame in frames:
        for text in (frame.frame_id, frame.path, str(frame.size_bytes), frame.status):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return redetection_part_key(model, day, recipe, digest.hexdigest()[:32])


def encode_part(seen: Sequence[FrameResult]) -> bytes:
    """Returns results as a Parquet file; numbers are rounded as in the documents of the ledger."""
    rows = [
        {
            "frame_id": each.frame.frame_id,
            "source_image_path": each.frame.path,
            "outcome": each.outcome.value,
            "code": each.code,
            "message": each.message,
            "detections": [_box(found.to_json()) for found in each.detections],
        }
        for each in seen
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _box(found: dict[str, object]) -> dict[str, object]:
    box = found.pop("box")
    return found | dict(zip(("x", "y", "width", "height"), box, strict=True))  # type: ignore[call-overload]  # a list


def put_part(store: ObjectStore, key: str, data: bytes, folder: Path) -> Path:
    """Stores a part, writes it to the local folder from which parts are joined, and returns its local path.

    If the part already exists in the store, it was made from the same frames and has the same content.
    """
    reach("redetection part", key)
    store.create(key, data)
    reach("redetection part done", key)
    path = local_path(folder, key)
    with disk_errors(folder):
        path.write_bytes(data)
    return path


@dataclass(slots=True)
class PartNotes:
    """The notes by which processes tell each other which parts they make."""

    store: ObjectStore
    worker: str
    patience_s: float
    """A note that was not renewed for this long is of a process that has died; 0: taken over at the second look."""
    _seen: dict[tuple[str, datetime], float] = field(default_factory=dict)
    """When each version of another process's note was first seen: one clock, which no other machine has to share."""
    _renewed_s: float = field(default_factory=time.monotonic)

    def begin(self, part: str) -> bool:
        """Records that this process starts a part; returns False if another one did, and may still work on it."""
        note = begun_note_key(part)
        if self.store.create(note, self.worker.encode()):
            return True
        if (found := self.store.head(note)) is None:
            return False
        now_s = time.monotonic()
        since_s = self._seen.setdefault((note, found.last_modified), now_s)
        is_lost = since_s < now_s - self.patience_s
        return is_lost and self.store.replace(note, self.worker.encode(), found.e_tag)

    def renew(self, parts: Iterable[str]) -> None:
        """Shows that this process still works on parts that it began."""
        if time.monotonic() - self._renewed_s > _RENEW_S:
            for part in parts:
                self.store.put(begun_note_key(part), self.worker.encode())
            self._renewed_s = time.monotonic()


def list_parts(store: ObjectStore, model: str, day: date, recipe: str) -> list[str]:
    """Returns the keys of a redetection's parts with this recipe, sorted."""
    prefix = redetection_parts_prefix(model, day)
    keys = (info.key for info in store.list_objects(prefix))
    return sorted(key for key in keys if key.startswith(f"{prefix}/{recipe}-") and key.endswith(".parquet"))


def remove_parts(store: ObjectStore, model: str, day: date) -> None:
    """Removes all parts and notes of a complete redetection, whatever their recipe."""
    for info in list(store.list_objects(redetection_parts_prefix(model, day))):
        store.delete(info.key)


def fetch_parts(store: ObjectStore, keys: Sequence[str], folder: Path) -> Iterator[Path]:
    """Yields the local file of each part, fetched if necessary; parts that were removed meanwhile are skipped.

    Raises:
        PermanentError: An object is not a part, or the local disk is full.
    """
    for key in keys:
        path = local_path(folder, key)
        if not path.exists():
            try:
                data = store.get(key)
            except ObjectMissingError:
                continue
            _check(data, key)
            with disk_errors(folder):
                path.write_bytes(data)
        yield path


def local_path(folder: Path, key: str) -> Path:
    """Returns the local path of a part."""
    return folder / f"part-{key.rpartition('/')[2]}"


def _check(data: bytes, key: str) -> None:
    try:
        schema = pq.read_schema(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise _no_part(key, str(error)) from None
    if schema.names != _SCHEMA.names:
        raise _no_part(key, f"its columns are {', '.join(schema.names)}")


def _no_part(key: str, why: str) -> PermanentError:
    return PermanentError(
        f"{key} is not a part of a redetection: {why}.",
        next_step="remove that object; its frames are then processed again",
    )


LOG = logging.getLogger(__name__)
_ATTEMPTS = 8
_RENEW_S, _LOST_AFTER_S = 5.0, 30.0  # a note that misses several renewals, not just one that a busy machine delays

Progress = Callable[[int, int], None]
"""Called with the number of frames that have an outcome, and of all frames."""


@dataclass(frozen=True, slots=True)
class Redetector:
    """Everything needed to re-process days with one model."""

    settings: Settings
    store: ObjectStore
    model: str
    """The choice, as in keys."""
    detector: Detector
    clock: Clock
    worker: str
    """Identifies this process, so each process takes the parts in a different order."""
    patience_s: float = 0
    """How long it waits at the end of a day for a process that has begun a part and does not renew its note."""


@dataclass(slots=True)
class DayAttempt:
    """One attempt to re-process a day."""

    owner: Redetector
    engine: Engine
    day: date
    recipe: str
    before: Stored
    """The objects that were stored before the frames were read."""
    source: Path
    """The file of the day's table `frames`."""
    reuses: bool
    """Whether stored outcomes are reused."""
    looked_at: int = 0
    _own: dict[str, Path] = field(default_factory=dict)

    def run(self, progress: Progress) -> dict[str, Made[RedetectionManifest]] | None:
        """Returns both objects; None if another process was faster."""
        frames = DayFrames(self.engine, self.source, self.day)
        reused = self._reused(frames)
        for _ in range(_ATTEMPTS):
            files = [*reused, *self._parts()]
            parts = frames.find_missing(files, self.owner.settings.redetect_part_frames)
            if not parts and frames.join(files):
                return self._write(frames)
            if not self._make_parts(frames, parts, progress):
                return None
        raise TransientError(f"Parts of {self.day} by {self.owner.model} disappear while the day is processed.")

    def _reused(self, frames: DayFrames) -> list[Path]:
        before = whole(self.before)
        if before is None or before.made_by != self.recipe or not self.reuses:
            return []
        paths = []
        for name in (FRAMES, DETECTIONS):
            path = self.engine.folder / f"{name}-before.parquet"
            try:
                with disk_errors(self.engine.folder):
                    fetch_table(self.owner.store, redetection_key(self.owner.model, self.day, name), path)
            except ObjectMissingError:  # it was removed in the meantime: process everything
                return []
            paths.append(path)
        # This name sorts after those of parts: if both have a frame, the part is newer and wins.
        target = self.engine.folder / "reused.parquet"
        frames.reuse(paths[0], paths[1], target)
        return [target]

    def _parts(self) -> list[Path]:
        """Returns the files of all parts, including those that this call made and another process removed."""
        keys = list_parts(self.owner.store, self.owner.model, self.day, self.recipe)
        fetched = fetch_parts(self.owner.store, keys, self.engine.folder)
        return sorted({*fetched, *self._own.values()})

    def _make_parts(self, frames: DayFrames, parts: int, progress: Progress) -> bool:
        """Makes the missing parts; returns False if another process stored a result in the meantime."""
        owner, order = self.owner, list(range(parts))
        random.Random(owner.worker).shuffle(order)  # noqa: S311 - spreads work, not used for security
        ahead = _PartsToMake(self, frames, order, PartNotes(owner.store, owner.worker, owner.patience_s))
        processor = FrameProcessor(owner.settings, ImageReader(owner.store, owner.settings), owner.detector)
        done = frames.frames - frames.missing()
        progress(done, frames.frames)
        seen: list[FrameResult] = []
        is_told = False
        while ahead.order and not ahead.overtaken:
            for each in processor.process_all(ahead.frames()):
                seen.append(each)
                done += 1
                progress(done + ahead.left_out, frames.frames)
                key, wanted = ahead.begun[0]
                ahead.notes.renew(key for key, _ in ahead.begun)
                if len(seen) == len(wanted):
                    self._keep(key, seen)
                    ahead.begun.popleft()
                    seen = []
            if ahead.left_out:  # also after the last frame of this process
                progress(done + ahead.left_out, frames.frames)
            if ahead.order and owner.patience_s and not ahead.overtaken:
                if not is_told:
                    LOG.warning("%s: waiting for %d parts that other processes make.", self.day, len(ahead.order))
                    is_told = True
                time.sleep(1)
        return not ahead.overtaken

    def _keep(self, key: str, seen: Sequence[FrameResult]) -> None:
        outcomes = {each.outcome for each in seen}
        if outcomes == {FrameOutcome.FAILED}:  # the detector may be at fault, not the images
            self_test(self.owner.detector)
        self._own[key] = put_part(self.owner.store, key, encode_part(seen), self.engine.folder)
        self.looked_at += sum(each.outcome is FrameOutcome.PROCESSED for each in seen)

    def _write(self, frames: DayFrames) -> dict[str, Made[RedetectionManifest]]:
        owner, manifest = self.owner, self._manifest(frames)
        model = asdict(manifest)
        queries = {FRAMES: frames.frame_rows(model), DETECTIONS: frames.detection_rows(model)}
        content = " ".join(hash_rows(self.engine, rows) for rows in queries.values())
        manifest = replace(manifest, content=content)
        first, _ = self.before.values()
        if first and not whole(self.before) and replace(first.manifest, built_at=manifest.built_at) == manifest:
            manifest = first.manifest  # another process stores this result now: both write the same objects
        footer = manifest.to_json()
        size = owner.settings.table_object_bytes
        made = {name: write_rows(self.engine, name, rows, footer, object_bytes=size) for name, rows in queries.items()}
        return {redetection_key(owner.model, self.day, name): Made(data, manifest) for name, data in made.items()}

    def _manifest(self, frames: DayFrames) -> RedetectionManifest:
        owner = self.owner
        outcomes, failed, found = frames.counts()
        if sum(outcomes.values()) != frames.frames:
            raise AssertionError(f"{frames.frames} frames have {sum(outcomes.values())} outcomes")
        return RedetectionManifest(
            table=REDETECTIONS.name,
            model=owner.model,
            day=self.day,
            made_by=self.recipe,
            made_of={FRAMES: parse_footer(self.source, day_table_key(FRAMES, self.day)).version},
            model_used=owner.detector.model_name,
            model_sha256=owner.detector.model_sha256,
            confidence_threshold=owner.detector.confidence_threshold,
            nms_threshold=owner.detector.nms_threshold,
            frames=frames.frames,
            processed=outcomes.get(FrameOutcome.PROCESSED.value, 0),
            gated=outcomes.get(FrameOutcome.GATED.value, 0),
            failed=failed,
            rows=found,
            built_at=owner.clock(),
            precision=owner.detector.use.precision,
        )


@dataclass(slots=True)
class _PartsToMake:
    """Takes parts in order, when there is room for their frames."""

    attempt: DayAttempt
    day_frames: DayFrames
    order: list[int]
    """Missing parts; after a pass, those that other processes have begun."""
    notes: PartNotes
    begun: deque[tuple[str, list[FrameToProcess]]] = field(default_factory=deque)
    left_out: int = 0
    overtaken: bool = False

    def frames(self) -> Iterator[FrameToProcess]:
        """Yields the frames of all parts that nobody else makes, and stops once another process stored a result."""
        attempt = self.attempt
        owner = attempt.owner
        order, self.order = self.order, []
        for number in order:
            self.notes.renew(key for key, _ in self.begun)  # to skip thousands of finished parts takes longer
            wanted = self.day_frames.part(number)
            key = part_key(owner.model, attempt.day, attempt.recipe, wanted)
            if owner.store.head(key) is not None:
                self.left_out += len(wanted)
                continue
            if read_redetection(owner.store, owner.model, attempt.day) != attempt.before:
                self.overtaken = True
                return
            if not self.notes.begin(key):
                self.order.append(number)
                continue
            self.begun.append((key, wanted))
            yield from wanted


@dataclass(frozen=True, slots=True)
class Redetection:
    """How a day was re-processed, or that there was nothing to do."""

    manifest: RedetectionManifest
    skipped: bool
    looked_at: int
    """Number of images that this call processed."""
    size_bytes: int
    """Size of both objects."""
    duration_s: float

    @property
    def frames_per_s(self) -> float:
        """Images per second of this call."""
        return self.looked_at / self.duration_s if self.duration_s else 0.0


def open_redetector(
    settings: Settings, store: ObjectStore, choice: ModelChoice, clock: Clock, *, shared: bool = False
) -> Redetector:
    """Loads a model for re-processing days, which other processes may share; errors as `load_chosen`."""
    worker, patience_s = f"{socket.gethostname()}:{os.getpid()}", _LOST_AFTER_S if shared else 0
    return Redetector(settings, store, str(choice), load_chosen(choice, settings), clock, worker, patience_s)


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
        """Prepares the redetection; nothing is read yet."""
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
        return Origin(manifest.made_of, manifest.made_by)

    def wanted(self, _stored: Stored, /) -> Origin:
        """Returns the version of the stored table `frames`."""
        source = read_stored(self.store, day_table_key(FRAMES, self._day))
        if source is None:
            raise _no_frames(self._redetector, self._day)
        return Origin({FRAMES: source.manifest.version}, self._recipe)

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
                fetch_table(self.store, day_table_key(FRAMES, self._day), path)
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
    days = list(list_days(redetector.store, FRAMES))
    return PermanentError(
        f"{day} has no frames to re-process. Days with a table `frames`: {name_nearest_days(days, day)}.",
        next_step=f"imgpipeline redetect --model {redetector.model} --day {nearest_day(days, day)}" if days else None,
    )
