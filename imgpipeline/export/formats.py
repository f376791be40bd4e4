"""Writes training frames as files: COCO (cocodataset.org, object detection) and YOLO (one text file per image)."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from imgpipeline.contracts.times import format_time
from imgpipeline.errors import BadInputError, ConfigurationError
from imgpipeline.export.training_frames import TrainingFrame, TrainingSet
from imgpipeline.objectstore import ImageReader
from imgpipeline.objectstore.parallel import map_ahead

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
    """The classes."""
    missing: tuple[str, ...]
    """Announced paths of unreadable images; their frames have boxes but no image."""


def coco_document(training: TrainingSet, write: IO[str], names: dict[str, str]) -> tuple[int, int]:
    """Writes the frames as one COCO document, and returns how many frames and boxes it has.

    Args:
        training: The frames.
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
        training: The frames.
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
