"""Numbered images as a source: `img1/000001.jpg` with a `seqinfo.ini` (MOT), `sequences/NAME/0000001.jpg` (VisDrone).

The number in a file name is the frame number; with the frame rate it also gives the time. Images are stored unchanged.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.sources.folder import FolderSource, Pace
from imgpipeline.sources.image_files import (
    HIDDEN,
    IMAGE_ENDINGS,
    FileToRead,
    ImageFile,
    Skipped,
    is_hidden,
    read_image,
)
from imgpipeline.sources.sequence_info import USUAL_RATE, find_info


def _find_sequence(path: Path) -> tuple[Path, str, float | None]:
    """Returns the folder of the images, the name and the frame rate (None: unknown) of a sequence.

    Args:
        path: The folder of the images, or the one above `img1` that contains `seqinfo.ini`.

    Raises:
        ConfigurationError: There is no such folder, or its `seqinfo.ini` cannot be read.
    """
    if not path.is_dir():
        raise ConfigurationError(f"There is no folder {path}.", next_step="name a folder of numbered images")
    info = find_info(path, path.parent)
    if info is None or (info.path.parent != path and path.name != info.image_folder):
        return path, path.resolve().name, None
    return info.path.parent / info.image_folder, info.name, info.rate


class SequenceSource(FolderSource):
    """The numbered images of one folder."""

    def __init__(
        self,
        settings: Settings,
        path: Path,
        name: str | None = None,
        *,
        rate: float | None = None,
        start: datetime | None = None,
    ) -> None:
        """Lists the images.

        Args:
            settings: Limit of the image size, and time zone of EXIF times.
            name: Source of the frames; None: the sequence's own name.
            rate: Frames per second; None: the rate in `seqinfo.ini`, otherwise 25.
            start: Time of the first image; None: its EXIF time, otherwise its modification time.

        Raises:
            ConfigurationError: There is no such folder, or it contains no numbered image.
            UsageError: The name of the source is not valid.
        """
        folder, own_name, own_rate = _find_sequence(path)
        self.rate = rate or own_rate or USUAL_RATE
        self.is_rate_known = rate is not None or own_rate is not None
        files, skipped = _numbered_images(folder)
        pace = Pace(start or _first_time(settings, files[0]), 1 / self.rate, files[0].number)
        super().__init__(settings, files, skipped, name or own_name, pace)


def _numbered_images(folder: Path) -> tuple[list[FileToRead], list[Skipped]]:
    """Returns the numbered images in order; of several with the same number, the first by name."""
    found: dict[int, FileToRead] = {}
    skipped: list[Skipped] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        digits = re.search(r"(\d+)\D*$", path.stem)
        number = int(digits[1]) if digits else -1
        if is_hidden(path.name):
            skipped.append(Skipped(path.name, HIDDEN))
        elif path.suffix.lower() not in IMAGE_ENDINGS or not path.is_file():
            skipped.append(Skipped(path.name, "not an image"))
        elif not 0 <= number < 2**63:
            skipped.append(Skipped(path.name, "its name has no number"))
        elif number in found:
            skipped.append(Skipped(path.name, f"{found[number].name} has the same number"))
        else:
            found[number] = FileToRead(path, path.name, number)
    if not found:
        raise ConfigurationError(
            f"{folder} contains no numbered images ({', '.join(IMAGE_ENDINGS)}).",
            next_step="name a folder with images such as 0000001.jpg; for others, `imgpipeline ingest folder`",
        )
    return [found[number] for number in sorted(found)], skipped


def _first_time(settings: Settings, file: FileToRead) -> datetime:
    first = read_image(file, settings.max_image_bytes)
    if isinstance(first, ImageFile):
        return first.own_time(find_timezone(settings.timezone))[0]
    return datetime.fromtimestamp(file.path.stat().st_mtime, UTC)
