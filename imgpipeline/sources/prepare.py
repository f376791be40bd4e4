"""`imgpipeline prepare`: writes the images of a folder or a video as numbered, resized JPEG files, ready for ingest.

Existing files are never overwritten, and an original is deleted only after its copy is written.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import numpy as np

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import BadInputError, ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.sources.image_files import (
    Skipped,
    Unusable,
    find_pictures,
    other_than_image,
    read_images,
)
from imgpipeline.sources.storing import stretch
from imgpipeline.sources.video import FrameChoice, Unreadable, read_frames, read_info
from imgpipeline.vision.annotate import encode_jpeg
from imgpipeline.vision.decode import ImageLimits, decode_image

_NUMBERED = re.compile(r"frame_(\d{6,})\.jpg", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How images are prepared."""

    size: tuple[int, int] | None = None
    """Width and height in pixels to which images are stretched; None: unchanged."""
    delete_originals: bool = False
    """Whether an original image is deleted once its copy is written. A video is never deleted."""
    dry_run: bool = False
    choice: FrameChoice = field(default_factory=FrameChoice)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image that was written, or would be."""

    original: str
    """Path below the folder, or the video's name and the number of the frame."""
    target: str


@dataclass(frozen=True, slots=True)
class PreparedImages:
    """The result for a folder or a video."""

    prepared: tuple[Prepared, ...]
    skipped: tuple[Skipped, ...]
    """Originals that were not written, with the reason. They are not deleted."""
    next_number: int


@dataclass(frozen=True, slots=True)
class _Original:
    """One image to prepare."""

    name: str
    pixels: np.ndarray
    time: datetime
    path: Path | None


def prepare(
    settings: Settings,
    path: Path,
    out: Path,
    options: PrepareOptions,
    *,
    stop: Event | None = None,
    progress: Callable[[int], None] | None = None,
) -> PreparedImages:
    """Writes prepared copies of the images of a folder, of one image, or of the frames of a video.

    The modification time of a copy is the image's own time, so `ingest folder` announces the copy with that time.

    Args:
        settings: Limit of the image size, and time zone of EXIF times.
        out: Output folder; created if missing.
        progress: Called with the number of written images.

    Raises:
        ConfigurationError: There is nothing to prepare, the output folder cannot be written, or an original cannot be
            deleted.
    """
    skipped: list[Skipped] = []
    originals = _frames(path, options, skipped) if _is_video(path) else _images(settings, path, skipped)
    number, done = _next_number(out), []
    for original in originals:
        if stop is not None and stop.is_set():
            break
        name, number = _write(out, number, original, options)
        done.append(Prepared(original.name, name))
        if options.delete_originals and not options.dry_run and original.path is not None:
            _delete(original.path, name)
        if progress:
            progress(len(done))
    return PreparedImages(tuple(done), tuple(skipped), number)


def _delete(path: Path, copy: str) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be deleted: {error.strerror}. Its copy is {copy}.",
            next_step="give this user write access to the folder, or leave out --delete-originals",
        ) from error


def _is_video(path: Path) -> bool:
    other = other_than_image(path) if path.is_file() else None
    return other is not None and other.is_video


def _images(settings: Settings, path: Path, skipped: list[Skipped]) -> Iterator[_Original]:
    files, others = find_pictures(path)
    skipped += others
    limits, zone = ImageLimits(settings.max_image_pixels, settings.max_image_bytes), find_timezone(settings.timezone)
    for read in read_images(files, settings.max_image_bytes):
        if isinstance(read, Unusable):
            skipped.append(read.skipped)
            continue
        try:
            pixels = decode_image(read.data, limits).pixels
        except BadInputError as error:
            skipped.append(Skipped(read.file.name, error.message))
        else:
            yield _Original(read.file.name, pixels, read.own_time(zone)[0], read.file.path)


def _frames(path: Path, options: PrepareOptions, skipped: list[Skipped]) -> Iterator[_Original]:
    start = read_info(path).created or datetime.fromtimestamp(path.stat().st_mtime, UTC)
    for frame in read_frames(path, options.choice):
        if isinstance(frame, Unreadable):
            skipped.append(Skipped(path.name, f"{counted(frame.count, 'frame')} cannot be read ({frame.reason})"))
        else:
            time = start + timedelta(seconds=frame.offset_s)
            yield _Original(f"{path.name}, frame {frame.number}", frame.pixels, time, None)


def _next_number(out: Path) -> int:
    if not out.is_dir():
        return 0
    numbers = (int(match[1]) for file in out.iterdir() if (match := _NUMBERED.fullmatch(file.name)))
    return max(numbers, default=-1) + 1


def _write(out: Path, number: int, original: _Original, options: PrepareOptions) -> tuple[str, int]:
    """Writes a copy under the next free number; returns its name and the number after it."""
    name = f"frame_{number:06d}.jpg"
    if options.dry_run:
        return name, number + 1
    pixels = stretch(original.pixels, options.size) if options.size else original.pixels
    unfinished = out / f".{name}.{os.getpid()}.unfinished"
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(encode_jpeg(pixels))
        os.utime(unfinished, (original.time.timestamp(),) * 2)
        while True:  # a hard link fails if the file exists; a rename would replace it
            try:
                (out / name).hardlink_to(unfinished)
            except FileExistsError:
                number += 1
                name = f"frame_{number:06d}.jpg"
            else:
                return name, number + 1
    except OSError as error:
        raise ConfigurationError(
            f"{out} cannot be written: {error.strerror}.", next_step="free space, or name another folder with --output"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
