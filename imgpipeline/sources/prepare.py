"""`imgpipeline prepare`: writes the images of a folder or a video as numbered, resized JPEG files, ready for ingest.

Existing files are never overwritten, and an original is deleted only after its copy is written.
"""

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Event

import numpy as np

from imgpipeline.errors import BadInputError, ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.sources.folder import open_folder
from imgpipeline.sources.image_files import Skipped, is_video
from imgpipeline.sources.ingest import FiniteSource
from imgpipeline.sources.protocol import CapturedFrame
from imgpipeline.sources.storing import stretch
from imgpipeline.sources.video import FrameChoice, VideoSource
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
    limits = ImageLimits(settings.max_image_pixels, settings.max_image_bytes)
    source: FiniteSource
    if is_video(path):
        source = VideoSource(path, "video", choice=options.choice)
    else:
        source = open_folder(settings, path, "images")
    number = _next_number(out)
    done: list[Prepared] = []
    undecodable: list[Skipped] = []
    for frame in source.capture(stop or Event()):
        if not isinstance(frame, CapturedFrame):
            continue
        original = frame.name or f"{path.name}, frame {frame.number}"
        try:
            pixels = decode_image(frame.data or b"", limits).pixels if frame.pixels is None else frame.pixels
        except BadInputError as error:
            undecodable.append(Skipped(original, error.message))
            continue
        name, number = _write(out, number, pixels, frame.timestamp, options)
        done.append(Prepared(original, name))
        if options.delete_originals and not options.dry_run and frame.name is not None:
            _delete(path / frame.name if path.is_dir() else path, name)
        if progress:
            progress(len(done))
    return PreparedImages(tuple(done), (*source.skipped, *undecodable), number)


def _delete(path: Path, copy: str) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be deleted: {error.strerror}. Its copy is {copy}.",
            next_step="give this user write access to the folder, or leave out --delete-originals",
        ) from error


def _next_number(out: Path) -> int:
    if not out.is_dir():
        return 0
    numbers = (int(match[1]) for file in out.iterdir() if (match := _NUMBERED.fullmatch(file.name)))
    return max(numbers, default=-1) + 1


def _write(out: Path, number: int, pixels: np.ndarray, time: datetime, options: PrepareOptions) -> tuple[str, int]:
    """Writes a copy under the next free number; returns its name and the number after it."""
    name = f"frame_{number:06d}.jpg"
    if options.dry_run:
        return name, number + 1
    unfinished = out / f".{name}.{os.getpid()}.unfinished"
    try:
        out.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(encode_jpeg(stretch(pixels, options.size) if options.size else pixels))
        os.utime(unfinished, (time.timestamp(),) * 2)
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
