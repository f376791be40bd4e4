"""Training sets: frames with boxes that annotations correct, written as COCO (cocodataset.org) or YOLO files."""

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO, Any

from imgpipeline.contracts.times import format_time
from imgpipeline.errors import BadInputError, ConfigurationError
from imgpipeline.export.annotations import Annotation, Mistake, annotations_of
from imgpipeline.lake.query.frames import FramePlace, detections_in, list_frames
from imgpipeline.lake.query.wanted_frames import WantedFrames, rows_of_days
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.objectstore.parallel import map_ahead

_AT_ONCE = 500
_Corrections = dict[tuple[date, str], list[Annotation]]


@dataclass(frozen=True, slots=True)
class TrainingBox:
    """One object in a frame."""

    label: str
    box_xywh: tuple[float, float, float, float]
    """x, y, width and height in pixels of the original image."""
    confidence: float | None
    """Confidence of the detection, 0 to 1; None for a box drawn by a person."""


@dataclass(frozen=True, slots=True)
class TrainingFrame:
    """One frame with a known size."""

    row: dict[str, Any]
    boxes: tuple[TrainingBox, ...]
    """The known objects: detections with a box, without those marked as wrong, plus annotated missing objects."""

    @property
    def image_path(self) -> str:
        """The announced path of its image; empty if it was imported without one."""
        return self.row["source_image_path"] or ""

    @property
    def file_name(self) -> str:
        """File name for its image: day and `frame_id`, with the suffix of the stored image."""
        suffix = PurePosixPath(self.image_path).suffix.lower()
        return f"{self.row['day']}_{self.row['frame_id']}{suffix or '.jpg'}"


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Frames selected for training by `open_training_set`; readable while the session is open."""

    lake: LakeSession
    wanted: WantedFrames
    is_marked: bool
    """Whether to select only frames with a valid annotation."""
    corrections: _Corrections
    labels: tuple[str, ...]

    def frames(self) -> Iterator[TrainingFrame]:
        """Yields the frames, latest first. Frames of unknown size, which were imported without image, are skipped."""
        place = None
        while True:
            rows = list_frames(self.lake, self.wanted, _AT_ONCE, after=place).table.to_pylist(maps_as_pydicts="strict")
            chosen = [row for row in rows if self._is_chosen(row)]
            boxes = detections_in(self.lake, [(row["day"], row["frame_id"]) for row in chosen])
            for row in chosen:
                yield TrainingFrame(row, tuple(self._boxes(row, boxes[row["day"], row["frame_id"]])))
            if len(rows) < _AT_ONCE:
                return
            place = FramePlace(rows[-1]["timestamp"], rows[-1]["day"], rows[-1]["frame_id"])

    def _is_chosen(self, row: dict[str, Any]) -> bool:
        is_sized = bool(row["image_width"] and row["image_height"])
        return is_sized and (not self.is_marked or (row["day"], row["frame_id"]) in self.corrections)

    def _boxes(self, row: dict[str, Any], found: Sequence[dict[str, Any]]) -> Iterator[TrainingBox]:
        said = self.corrections.get((row["day"], row["frame_id"]), [])
        wrong = [(one.label, one.box) for one in said if one.mistake is Mistake.WRONG]
        for box in found:
            xywh = (box["x"], box["y"], box["width"], box["height"])
            # Compared by label and box, because processing a day again can change the numbers of detections.
            if box["x"] is not None and (box["label"], xywh) not in wrong:
                yield TrainingBox(box["label"], xywh, box["confidence"])
        for one in said:
            if one.mistake is Mistake.MISSING and one.box is not None:
                yield TrainingBox(one.label, one.box, None)


def open_training_set(
    lake: LakeSession, store: ObjectStore, wanted: WantedFrames, days: Sequence[date], *, is_marked: bool
) -> TrainingSet:
    """Selects frames for training.

    Raises:
        PermanentError: A stored object is damaged.
        TransientError: The store does not answer.
    """
    corrections: _Corrections = defaultdict(list)
    for day in days:
        for one in annotations_of(store, day):
            if one.withdrawn_by is None:
                corrections[one.day, one.frame_id].append(one)
    found = lake.query(f"SELECT DISTINCT label FROM detections WHERE {rows_of_days(wanted.span, wanted.local)}").rows  # noqa: S608 - dates
    labels = {label for (label,) in found} | {one.label for said in corrections.values() for one in said}
    return TrainingSet(lake, wanted, is_marked, dict(corrections), tuple(sorted(labels)))


_READERS, _AHEAD = 8, 16


class TrainingFormat(StrEnum):
    """Format of a training set."""

    COCO = "coco"
    """`annotations.json`, and `images/`."""
    YOLO = "yolo"
    """`data.yaml`, `labels/` with one text file per image, and `images/`."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    folder: Path
    frames: int
    boxes: int
    labels: tuple[str, ...]
    missing: tuple[str, ...]
    """Announced paths of unreadable images; their frames have boxes but no image."""


def coco_document(training: TrainingSet, write: IO[str], names: dict[str, str]) -> tuple[int, int]:
    """Writes the frames as one COCO document, and returns how many frames and boxes it has.

    Args:
        write: Receives the document, in constant memory.
        names: Receives the announced path of each image, by file name.
    """
    classes = {label: number for number, label in enumerate(training.labels, 1)}
    frames = boxes = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as annotations:
        write.write('{"images": [')
        for frames, frame in enumerate(training.frames(), 1):
            write.write(", " * (frames > 1) + _json(_coco_image(frames, frame)))
            for box in frame.boxes:
                boxes += 1
                x, y, width, height = box.box_xywh
                annotations.write(", " * (boxes > 1) + _json({
                    "id": boxes, "image_id": frames, "category_id": classes[box.label], "bbox": [x, y, width, height],
                    "area": width * height, "iscrowd": 0, "score": box.confidence,
                }))  # fmt: skip
            names[frame.file_name] = frame.image_path
        write.write('], "annotations": [')
        annotations.seek(0)
        shutil.copyfileobj(annotations, write)
        categories = [{"id": number, "name": label} for label, number in classes.items()]
        write.write(f'], "categories": {_json(categories)}}}')
    return frames, boxes


def _coco_image(number: int, frame: TrainingFrame) -> dict[str, Any]:
    row = frame.row
    return {
        "id": number, "file_name": frame.file_name, "width": row["image_width"], "height": row["image_height"],
        "date_captured": format_time(row["timestamp"]), "source": row["source"], "frame_id": row["frame_id"],
    }  # fmt: skip


def yolo_files(training: TrainingSet) -> Iterator[tuple[str, str, TrainingFrame]]:
    """Yields the text file of each frame: its name below `labels/`, its text, and the frame."""
    classes = {label: number for number, label in enumerate(training.labels)}
    for frame in training.frames():
        places = ((box.label, _normalized(box.box_xywh, frame)) for box in frame.boxes)
        lines = (f"{classes[label]} {place}\n" for label, place in places if place)
        yield f"{Path(frame.file_name).stem}.txt", "".join(lines), frame


def _normalized(box_xywh: tuple[float, float, float, float], frame: TrainingFrame) -> str:
    """Returns centre and size of a box as fractions of the image, clipped to the image; empty if outside."""
    x, y, width, height = box_xywh
    wide, high = frame.row["image_width"], frame.row["image_height"]
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(float(wide), x + width), min(float(high), y + height)
    if right <= left or bottom <= top:
        return ""
    parts = ((left + right) / 2 / wide, (top + bottom) / 2 / high, (right - left) / wide, (bottom - top) / high)
    return " ".join(f"{part:.6f}" for part in parts)


def yolo_data(labels: Iterable[str]) -> str:
    """Returns `data.yaml`. Names are written as JSON strings, which are valid YAML."""
    names = "".join(f"  {number}: {_json(label)}\n" for number, label in enumerate(labels))
    return f"path: .\ntrain: images\nval: images\nnames:\n{names}"


def write_training_set(
    training: TrainingSet,
    folder: Path,
    kind: TrainingFormat,
    images: ImageReader | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Writes the frames into a new folder, which appears complete or not at all.

    Args:
        folder: A new or empty folder.
        kind: The format.
        images: Reads the images; None: no images are written.
        progress: Called with the number of images read and the total.

    Raises:
        ConfigurationError: The folder is not empty, or cannot be written.
        TransientError: The store does not answer.
    """
    with _whole(folder) as part:
        names: dict[str, str] = {}  # announced path by file name
        if kind is TrainingFormat.COCO:
            with (part / "annotations.json").open("w", encoding="utf-8") as write:
                frames, boxes = coco_document(training, write, names)
        else:
            frames, boxes = _write_labels(training, part, names)
        missing = _write_images(images, names, part / "images", progress) if images else []
    return Exported(folder, frames, boxes, training.labels, tuple(missing))


def _write_labels(training: TrainingSet, part: Path, names: dict[str, str]) -> tuple[int, int]:
    labels, boxes = part / "labels", 0
    labels.mkdir()
    for name, text, frame in yolo_files(training):
        (labels / name).write_text(text, encoding="utf-8")
        names[frame.file_name] = frame.image_path
        boxes += len(frame.boxes)
    (part / "data.yaml").write_text(yolo_data(training.labels), encoding="utf-8")
    return len(names), boxes


def _write_images(
    images: ImageReader, names: Mapping[str, str], folder: Path, progress: Callable[[int, int], None] | None
) -> list[str]:
    folder.mkdir()

    def fetch(file_name: str) -> str | None:
        path = names[file_name]
        try:
            (folder / file_name).write_bytes(images.read(path).data)
        except BadInputError:
            return path
        return None

    missing = []
    for done, path in enumerate(map_ahead(fetch, names, workers=_READERS, ahead=_AHEAD), 1):
        missing += [path] if path is not None else []
        if progress:
            progress(done, len(names))
    return missing


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    if not folder.name:
        raise ConfigurationError(f"{folder} cannot be replaced by a new folder.", next_step="name a new folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(f"{folder} is not an empty folder.", next_step="name a new folder")
    part = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(part, ignore_errors=True)  # left by an interrupted export
        part.mkdir(parents=True)
        yield part
        part.replace(folder)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror or error}.", next_step="name a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
