"""One attempt to re-process a day, for one version of its frames.

It reuses stored results, divides the remaining frames into parts, and writes both objects when every frame has an
outcome.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path

from imgpipeline.contracts.keys import day_table_key, redetection_key
from imgpipeline.contracts.times import Clock
from imgpipeline.errors import TransientError
from imgpipeline.lake.build.derived import Made
from imgpipeline.lake.storage.engine import Engine, disk_errors
from imgpipeline.lake.storage.manifest import hash_rows, parse_footer, write_rows
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ImageReader, ObjectMissingError, ObjectStore
from imgpipeline.redetect.day_frames import DayFrames
from imgpipeline.redetect.frames import FrameOutcome, FrameProcessor, FrameResult, FrameToProcess
from imgpipeline.redetect.manifest import DETECTIONS, FRAMES, RedetectionManifest, Stored, read_redetection, whole
from imgpipeline.redetect.parts import begin_part, encode_part, fetch_parts, list_parts, part_key, put_part
from imgpipeline.settings import Settings
from imgpipeline.vision.detector import Detector, self_test

_ATTEMPTS = 8

Progress = Callable[[int, int], None]
"""Called with the number of frames that have an outcome, and of all frames."""


@dataclass(frozen=True, slots=True)
class Redetector:
    """Everything needed to re-process days with one model."""

    settings: Settings
    """Limits, and how much is done at a time."""
    store: ObjectStore
    model: str
    """The choice, as in keys."""
    detector: Detector
    """The loaded model."""
    clock: Clock
    """Returns the build time for manifests."""
    worker: str
    """Identifies this process, so each process takes the parts in a different order."""


@dataclass(slots=True)
class DayAttempt:
    """One attempt to re-process a day."""

    owner: Redetector
    """The model, the store, the settings."""
    engine: Engine
    """DuckDB with a folder."""
    day: date
    """UTC day."""
    recipe: str
    """Hash of everything that affects detections."""
    before: Stored
    """The objects that were stored before the frames were read."""
    source: Path
    """The file of the day's table `frames`."""
    reuses: bool
    """Whether stored outcomes are reused."""
    looked_at: int = 0
    """Number of processed images."""
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
        done, begun = frames.frames - frames.missing(), deque[tuple[str, list[FrameToProcess]]]()
        order = list(range(parts))
        random.Random(self.owner.worker).shuffle(order)  # noqa: S311 - spreads work, not used for security
        ahead = _PartsToMake(self, frames, order, begun)
        settings, store = self.owner.settings, self.owner.store
        processor = FrameProcessor(settings, ImageReader(store, settings), self.owner.detector)
        progress(done, frames.frames)
        seen: list[FrameResult] = []
        for each in processor.process_all(ahead.frames()):
            seen.append(each)
            done += 1
            progress(done + ahead.left_out, frames.frames)
            key, wanted = begun[0]
            if len(seen) == len(wanted):
                self._keep(key, seen)
                begun.popleft()
                seen = []
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
        footer = (manifest := replace(manifest, content=content)).to_json()
        size = owner.settings.table_object_bytes
        made = {name: write_rows(self.engine, name, rows, footer, object_bytes=size) for name, rows in queries.items()}
        return {redetection_key(owner.model, self.day, name): Made(data, manifest) for name, data in made.items()}

    def _manifest(self, frames: DayFrames) -> RedetectionManifest:
        owner = self.owner
        outcomes, failed, found = frames.counts()
        if sum(outcomes.values()) != frames.frames:
            raise AssertionError(f"{frames.frames} frames have {sum(outcomes.values())} outcomes")
        return RedetectionManifest(
            model=owner.model,
            day=self.day,
            made_by=self.recipe,
            made_of=parse_footer(self.source, day_table_key(FRAMES, self.day)).version,
            model_used=owner.detector.model_name,
            model_sha256=owner.detector.model_sha256,
            confidence_threshold=owner.detector.confidence_threshold,
            nms_threshold=owner.detector.nms_threshold,
            frames=frames.frames,
            processed=outcomes.get(FrameOutcome.PROCESSED.value, 0),
            gated=outcomes.get(FrameOutcome.GATED.value, 0),
            failed=failed,
            detections=found,
            content="",
            built_at=owner.clock(),
            precision=owner.detector.use.precision,
        )


@dataclass(slots=True)
class _PartsToMake:
    """Takes parts in order, when there is room for their frames."""

    attempt: DayAttempt
    day_frames: DayFrames
    order: Sequence[int]
    begun: deque[tuple[str, list[FrameToProcess]]]
    left_out: int = 0
    overtaken: bool = False

    def frames(self) -> Iterator[FrameToProcess]:
        """Yields the frames of all missing parts, and stops once another process stored a result.

        Parts that other processes started come last: by then, these have finished them or died.
        """
        attempt = self.attempt
        owner = attempt.owner
        waiting = deque((number, True) for number in self.order)
        while waiting:
            number, is_new = waiting.popleft()
            wanted = self.day_frames.part(number)
            key = part_key(owner.model, attempt.day, attempt.recipe, wanted)
            if owner.store.head(key) is not None:
                self.left_out += len(wanted)
                continue
            if read_redetection(owner.store, owner.model, attempt.day) != attempt.before:
                self.overtaken = True
                return
            if is_new and not begin_part(owner.store, key, owner.worker):
                waiting.append((number, False))
                continue
            self.begun.append((key, wanted))
            yield from wanted
