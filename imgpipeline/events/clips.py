"""Writes the frames before, during and after an event as a video clip with boxes and times."""

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np

from imgpipeline.contracts.detection import Detection
from imgpipeline.contracts.times import day_of, format_time
from imgpipeline.errors import BadInputError, PermanentError, UsageError
from imgpipeline.events.values import Event, SeenFrame
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.vision.annotate import draw_detections, read_pixels, scaled, write_text
from imgpipeline.vision.clip_file import SUFFIXES, ClipImage, write_clip_file
from imgpipeline.vision.decode import Pixels

_MOST_SIDE = {".mp4": 1280, ".gif": 480}
_UNKNOWN_SIZE = (640, 360)
_FRAMES = """
SELECT frame_id, source, "timestamp", source_image_path, coalesce(image_width, 0), coalesce(image_height, 0) FROM frames
WHERE source = $source AND "timestamp" BETWEEN $begin AND $end
ORDER BY "timestamp", frame_number, frame_id LIMIT $limit"""
_BOXES = """
SELECT frame_id, label, class_id, confidence, x, y, width, height FROM detections
WHERE source = $source AND "timestamp" BETWEEN $begin AND $end AND x IS NOT NULL ORDER BY detection_number"""
_WHITE, _BLACK, _GREY, _RED = (255, 255, 255), (0, 0, 0), (64, 64, 64), (40, 40, 200)


@dataclass(frozen=True, slots=True)
class ClipWish:
    """The range and speed of a clip."""

    before_s: float = 5.0
    """Seconds before the start of the event."""
    after_s: float = 5.0
    """Seconds after its last frame."""
    speed: float = 1.0
    """Factor by which the clip is faster than the event, > 0."""
    most_frames: int = 600
    """Maximum number of frames; a longer clip ends early."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A written clip."""

    path: Path
    frames: int
    missing: int
    """Number of frames without an image; they show the reason as text."""
    first: datetime
    last: datetime
    is_cut: bool
    """Whether it ends early because of the maximum number of frames."""


def write_event_clip(store: ObjectStore, settings: Settings, event: Event, path: Path, wish: ClipWish) -> Clip:
    """Writes the clip of an event as `.mp4` or `.gif`; replaces an existing file once the clip is complete.

    Raises:
        UsageError: The file has another suffix.
        PermanentError: There are no frames, or the file cannot be written.
        TransientError: The store does not answer.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path} is not a clip file; expected {' or '.join(SUFFIXES)}.",
            next_step="give a file with such a suffix: --output",
        )
    begin = event.started_at - timedelta(seconds=wish.before_s)
    end = event.ended_at + timedelta(seconds=wish.after_s)
    first, last = day_of(begin), day_of(end)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    span = {"source": event.source, "begin": begin, "end": end}
    with open_lake(store, settings=settings, days=days) as lake:
        frames, boxes = _frames(lake, span, limit=wish.most_frames + 1), _boxes(lake, span)
    if not frames:
        raise PermanentError(
            f"{event.source} has no frames from {format_time(begin)} to {format_time(end)}.",
            next_step="run `imgpipeline frames list`",
        )
    is_cut = len(frames) > wish.most_frames
    frames = frames[: wish.most_frames]
    drawing = _Drawing(ImageReader(store, settings), event, _canvas_size(frames, _MOST_SIDE[path.suffix]))
    images = (
        ClipImage(
            (shown.timestamp - frames[0].timestamp).total_seconds() / wish.speed,
            drawing.draw(shown, boxes[shown.frame_id]),
        )
        for shown in frames
    )
    unfinished = path.with_stem(f".{path.stem}-{uuid4().hex[:8]}")
    try:
        count = write_clip_file(images, unfinished)
        unfinished.replace(path)
    except OSError as error:
        raise PermanentError(
            f"{path} cannot be written: {error.strerror or error}.",
            next_step="give another file: --output",
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return Clip(path, count, drawing.missing, frames[0].timestamp, frames[-1].timestamp, is_cut)


def _frames(lake: LakeSession, span: Mapping[str, object], *, limit: int) -> list[SeenFrame]:
    rows = lake.query(_FRAMES, {**span, "limit": limit}).rows
    return [SeenFrame(name, source, at, path, (width, height)) for name, source, at, path, width, height in rows]


def _boxes(lake: LakeSession, span: Mapping[str, object]) -> Mapping[str, list[Detection]]:
    found: defaultdict[str, list[Detection]] = defaultdict(list)
    for frame_id, label, number, confidence, *box_xywh in lake.query(_BOXES, span).rows:
        found[frame_id].append(Detection(label, number, confidence, tuple(box_xywh)))
    return found


def _canvas_size(frames: Sequence[SeenFrame], most_side: int) -> tuple[int, int]:
    """Returns width and height of the clip: the first known image size, reduced to the limit and to even numbers."""
    width, height = next((shown.size for shown in frames if all(shown.size)), _UNKNOWN_SIZE)
    ratio = min(1.0, most_side / max(width, height))
    return max(2, round(width * ratio / 2) * 2), max(2, round(height * ratio / 2) * 2)


@dataclass(slots=True)
class _Drawing:
    """Draws the frames of one clip."""

    images: ImageReader
    event: Event
    size: tuple[int, int]
    missing: int = 0

    def draw(self, shown: SeenFrame, boxes: Sequence[Detection]) -> Pixels:
        """Returns an image of the clip's size, with boxes and time, or with the reason why the image is missing."""
        try:
            if not shown.image_path:
                raise PermanentError("imported without an image")
            canvas = self._fitted(read_pixels(self.images, shown.image_path), boxes)
        except (BadInputError, PermanentError) as error:
            self.missing += 1
            canvas = self._placeholder(error.message)
        is_during = self.event.started_at <= shown.timestamp <= self.event.ended_at
        part = "event" if is_during else "before" if shown.timestamp < self.event.started_at else "after"
        ground = _RED if is_during else _BLACK
        write_text(
            canvas, f"{format_time(shown.timestamp)[:23]}Z {part}", (4, self.size[1] - 8), ink=_WHITE, ground=ground
        )
        return canvas

    def _fitted(self, pixels: Pixels, boxes: Sequence[Detection]) -> Pixels:
        """Returns an image scaled to the clip's size, centred on black if its proportions differ."""
        width, height = self.size
        ratio = min(width / pixels.shape[1], height / pixels.shape[0])
        inner = (_side(pixels.shape[1] * ratio, width), _side(pixels.shape[0] * ratio, height))
        small = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        small = draw_detections(small, scaled(boxes, pixels, small))
        left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[top : top + inner[1], left : left + inner[0]] = small
        return canvas

    def _placeholder(self, why: str) -> Pixels:
        width, height = self.size
        canvas = np.full((height, width, 3), _GREY, np.uint8)
        for number, line in enumerate(textwrap.wrap(why, max(10, width // 10)), start=1):
            write_text(canvas, line, (8, 8 + 20 * number), ink=_WHITE, ground=_GREY)
        return canvas


def _side(wanted: float, full: int) -> int:
    """Returns the length of a side; fills the clip if only one pixel is missing, because the clip's sides are even."""
    side = max(1, round(wanted))
    return full if abs(full - side) < 2 else side
