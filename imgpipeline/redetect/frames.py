"""The frames of a day: which of them still need an outcome (`DayFrames`), and how another model makes it."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.faultpoints import reach
from imgpipeline.lake.schema.redetections import REDETECTED_FRAMES, REDETECTIONS
from imgpipeline.lake.schema.tables import Table
from imgpipeline.lake.storage.engine import Engine, all_rows, identifier, quoted
from imgpipeline.objectstore import ImageReader
from imgpipeline.settings import Settings
from imgpipeline.vision.configured import detect_workers
from imgpipeline.vision.detector import Detector
from imgpipeline.vision.image_detector import ImageDetector
from imgpipeline.vision.image_pool import ImagePool, ReadImage


class FrameOutcome(StrEnum):
    """The outcome of one frame."""

    PROCESSED = "processed"
    GATED = "gated"
    """It was gated before live detection, so it is not processed here either."""
    FAILED = "failed"
    """Its image is no longer available."""


@dataclass(frozen=True, slots=True)
class FrameToProcess:
    """One frame of a day."""

    frame_id: str
    path: str
    """Where its image is stored; empty if unknown."""
    size_bytes: int
    """Size of the image at live detection; 0 if unknown."""
    status: str
    """`processed` or `gated`, as in live detection."""
    gate_reason: str | None


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The result of one frame."""

    frame: FrameToProcess
    outcome: FrameOutcome
    code: str | None = None
    """Why it failed (a code of dead letters) or was gated."""
    message: str | None = None
    detections: tuple[Detection, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadFrame(ReadImage):
    """A frame with its image."""

    frame: FrameToProcess


@dataclass(frozen=True, slots=True)
class FrameProcessor:
    """Turns frames into results; an `ImageWork` for many threads.

    Every frame gets a result, whatever its image is. Only errors of the environment are raised.
    """

    settings: Settings
    images: ImageReader
    detector: Detector
    _image_detector: ImageDetector = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_image_detector", ImageDetector(self.settings, self.detector))

    def process_all(self, frames: Iterable[FrameToProcess]) -> Iterator[FrameResult]:
        """Yields the result of each frame, in the order of the frames.

        Args:
            frames: The frames; taken only when there is room for them.

        Raises:
            TransientError: The store does not answer, or there is not enough memory.
            ForbiddenError: The store denies access to the pipeline's own prefix.
            PermanentError: The detector does not work.
        """
        ahead = self.settings.prefetch_images + 2 * detect_workers(self.settings)
        pending: deque[Future[FrameResult]] = deque()
        with closing(ImagePool.of(self.settings, self)) as pool:
            for frame in frames:
                pending.append(pool.submit(frame))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def read(
        self, item: FrameToProcess, _since_s: float | None = None, /, *, admit: Callable[[int], None] | None = None
    ) -> ReadFrame | FrameResult:
        """Reads a frame's image; arguments as `ImageWork.read`, errors as `process_all`."""
        if item.status != FrameStatus.PROCESSED.value:
            return FrameResult(item, FrameOutcome.GATED, item.gate_reason)
        try:
            return ReadFrame(self._fetch(item, admit), time.perf_counter(), item)
        except BadInputError as error:
            return _failed(item, error)

    def look(self, read: ReadFrame) -> FrameResult:
        """Decodes an image and finds the objects in it; errors as `process_all`."""
        reach("look again", read.frame.path)
        try:
            found = self._image_detector.detect(read.data)
        except BadInputError as error:
            return _failed(read.frame, error)
        return FrameResult(read.frame, FrameOutcome.PROCESSED, detections=found.detections)

    def _fetch(self, frame: FrameToProcess, admit: Callable[[int], None] | None) -> bytes:
        if not frame.path:
            raise BadInputError(DeadLetterCode.OBJECT_NOT_FOUND, "The frame names no image.")
        data = self.images.read(frame.path, admit=admit).data
        if frame.size_bytes not in (0, len(data)):
            raise BadInputError(
                DeadLetterCode.HASH_MISMATCH,
                f"The image has {len(data)} bytes; it had {frame.size_bytes} at live detection.",
            )
        return data


def _failed(frame: FrameToProcess, error: BadInputError) -> FrameResult:
    return FrameResult(frame, FrameOutcome.FAILED, error.code.value, error.message)


_TO_SEE = """
CREATE OR REPLACE TABLE to_see AS
SELECT frame_id, path, size_bytes, status, gate_reason,
       (row_number() OVER (ORDER BY "timestamp", frame_id) - 1) // {part_frames} AS part
FROM (SELECT *, coalesce(source_image_path, '') AS path FROM day_frames) AS frame
ANTI JOIN covered ON covered.frame_id = frame.frame_id AND covered.source_image_path = frame.path
                 AND covered.gated = (frame.status <> 'processed')
ORDER BY "timestamp", frame_id
"""
_OUTCOMES = """
CREATE OR REPLACE TABLE outcomes AS
SELECT found.* EXCLUDE (filename)
FROM read_parquet({files}, filename = true, hive_partitioning = false) AS found
JOIN day_frames ON day_frames.frame_id = found.frame_id
               AND coalesce(day_frames.source_image_path, '') = found.source_image_path
               AND (day_frames.status <> 'processed') = (found.outcome = 'gated')
QUALIFY row_number() OVER (PARTITION BY found.frame_id ORDER BY found.filename) = 1
"""
_REUSED = """
COPY (
    SELECT frame.frame_id, coalesce(frame.source_image_path, '') AS source_image_path, outcome, code, message,
           coalesce(found.boxes, []) AS detections
    FROM read_parquet({frames}, hive_partitioning = false) AS frame
    LEFT JOIN (
        SELECT frame_id, list(struct_pack(label, class_id, confidence, x, y, width, height)
                              ORDER BY detection_number) AS boxes
        FROM read_parquet({detections}, hive_partitioning = false) GROUP BY frame_id) AS found USING (frame_id)
    WHERE outcome <> 'failed'
) TO {target} (FORMAT parquet)
"""
_OF_MODEL = ("model_used", "model_sha256", "confidence_threshold", "nms_threshold")
_OF_OUTCOME = {"outcome": "outcome", "code": "code", "message": "message",
               "detections": "CAST(len(detections) AS INTEGER)"}  # fmt: skip
_OF_DETECTION = {
    "detection_number": "CAST(place AS INTEGER)",
    **{name: f"box.{name}" for name in ("label", "class_id", "confidence", "x", "y", "width", "height")},
}


class DayFrames:
    """The frames of one day and their outcomes. Not thread-safe."""

    def __init__(self, engine: Engine, frames: Path, day: date) -> None:
        """Opens a day."""
        self._engine = engine
        engine.run(f"CREATE OR REPLACE VIEW day_frames AS {all_rows(frames, day=day)}")
        self.frames: int = engine.value("SELECT count(*) FROM day_frames")

    def reuse(self, frames: Path, detections: Path, target: Path) -> None:
        """Writes the outcomes of an earlier redetection as a part, without failed ones, which are tried again."""
        places = {"frames": frames, "detections": detections, "target": target}
        self._engine.run(_REUSED.format(**{name: quoted(str(path)) for name, path in places.items()}))

    def find_missing(self, files: Sequence[Path], part_frames: int) -> int:
        """Finds the frames without an outcome in any file, and returns into how many parts they are divided."""
        self._engine.run("CREATE OR REPLACE TABLE covered (frame_id VARCHAR, source_image_path VARCHAR, gated BOOLEAN)")
        if files:
            self._engine.run(
                "INSERT INTO covered SELECT frame_id, source_image_path, outcome = 'gated' "  # noqa: S608 - quoted
                f"FROM read_parquet({_list(files)}, hive_partitioning = false)"
            )
        self._engine.run(_TO_SEE.format(part_frames=part_frames))
        parts: int = self._engine.value("SELECT coalesce(max(part) + 1, 0) FROM to_see")
        return parts

    def missing(self) -> int:
        """Returns the number of frames that `find_missing` found."""
        count: int = self._engine.value("SELECT count(*) FROM to_see")
        return count

    def part(self, number: int) -> list[FrameToProcess]:
        """Returns the frames of one part, in order of time."""
        rows = self._engine.run(
            "SELECT frame_id, path, coalesce(size_bytes, 0), status, gate_reason FROM to_see WHERE part = ? "
            "ORDER BY rowid",
            [number],
        )
        return [FrameToProcess(*row) for row in rows]

    def join(self, files: Sequence[Path]) -> bool:
        """Reads the outcomes of the day's frames from the files; returns whether every frame has one."""
        if not files:
            return self.frames == 0 and self._create_empty()
        self._engine.run(_OUTCOMES.format(files=_list(files)))
        return bool(self._engine.value("SELECT count(*) FROM outcomes") == self.frames)

    def counts(self) -> tuple[dict[str, int], dict[str, int], int]:
        """Returns the frames by outcome, the failed frames by code, and the number of detections."""
        outcomes = self._engine.run("SELECT outcome, count(*) FROM outcomes GROUP BY outcome")
        failed = self._engine.run(
            "SELECT code, count(*) FROM outcomes WHERE outcome = 'failed' GROUP BY code ORDER BY code"
        )
        found: int = self._engine.value("SELECT coalesce(sum(len(detections)), 0)::BIGINT FROM outcomes")
        return dict(outcomes), dict(failed), found

    def frame_rows(self, model: Mapping[str, Any]) -> str:
        """Returns the query of the redetection's object `frames`, without `model` and `day`."""
        selected = _selected(REDETECTED_FRAMES, model, _OF_OUTCOME)
        return (
            f"SELECT {selected} FROM day_frames AS frame JOIN outcomes USING (frame_id) "  # noqa: S608 - own names
            'ORDER BY "timestamp", frame_id'
        )

    def detection_rows(self, model: Mapping[str, Any]) -> str:
        """Returns the query of the redetection's object `detections`: the columns of `detections`, without `day`."""
        selected = _selected(REDETECTIONS, model, _OF_DETECTION)
        return (
            f"SELECT {selected} FROM day_frames AS frame JOIN ("  # noqa: S608 - own names
            "SELECT frame_id, unnest(detections) AS box, generate_subscripts(detections, 1) - 1 AS place FROM outcomes"
            ') USING (frame_id) ORDER BY "timestamp", frame_id, detection_number'
        )

    def _create_empty(self) -> bool:
        boxes = "STRUCT(label VARCHAR, class_id INTEGER, confidence DOUBLE, x DOUBLE, y DOUBLE, width DOUBLE, "
        self._engine.run(
            "CREATE OR REPLACE TABLE outcomes (frame_id VARCHAR, source_image_path VARCHAR, outcome VARCHAR, "
            f"code VARCHAR, message VARCHAR, detections {boxes}height DOUBLE)[])"
        )
        return True


def _selected(table: Table, model: Mapping[str, Any], own: Mapping[str, str]) -> str:
    """Returns the SELECT list of a table: columns of the model, columns in `own`, and all others from the frame."""
    selected = []
    for column in table.columns:
        name = identifier(column.name)
        if column.name in _OF_MODEL:
            selected.append(f"{_literal(model[column.name])} AS {name}")
        elif column.name in own:
            selected.append(f"{own[column.name]} AS {name}")
        elif column.name not in ("model", "day"):
            selected.append(f"frame.{name}")
    return ", ".join(selected)


def _list(files: Sequence[Path]) -> str:
    return "[" + ", ".join(quoted(str(file)) for file in files) + "]"


def _literal(value: object) -> str:
    return quoted(value) if isinstance(value, str) else f"CAST({value!r} AS DOUBLE)"
