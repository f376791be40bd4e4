"""Numbered images as a source: `img1/000001.jpg` with a `seqinfo.ini` (MOT), `sequences/NAME/0000001.jpg` (VisDrone).

The number in a file name is the frame number; with the frame rate it also gives the time. Images are stored unchanged.
"""

import configparser
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.sources.image_files import (
    HIDDEN,
    IMAGE_ENDINGS,
    FileToRead,
    ImageFile,
    Skipped,
    capture_images,
    is_hidden,
    read_image,
)
from imgpipeline.sources.ingest import announced_of, ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured, CapturedFrame, SourceKind, checked_source

USUAL_RATE = 25.0
"""Frames per second of a sequence without a rate."""
_INFO = "seqinfo.ini"


def _find_sequence(path: Path) -> tuple[Path, str, float | None]:
    """Returns the folder of the images, the name and the frame rate (None: unknown) of a sequence.

    Args:
        path: The folder of the images, or the one above `img1` that contains `seqinfo.ini`.

    Raises:
        ConfigurationError: There is no such folder, or its `seqinfo.ini` cannot be read.
    """
    if not path.is_dir():
        raise ConfigurationError(f"There is no folder {path}.", next_step="name a folder of numbered images")
    info = next((file for file in (path / _INFO, path.parent / _INFO) if file.is_file()), None)
    if info is None or (info.parent != path and path.name != _images_of(info)):
        return path, path.resolve().name, None
    said = _read_info(info)
    name = said.get("name") or info.parent.resolve().name
    return info.parent / _images_of(info), name, _rate_of(info, said.get("frameRate"))


def _images_of(info: Path) -> str:
    return _read_info(info).get("imDir") or "img1"


def _read_info(info: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(info, encoding="utf-8-sig")
        return parser["Sequence"]
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{info} cannot be read: {error}.", next_step="expected [Sequence] with name, imDir and frameRate"
        ) from None


def _rate_of(info: Path, text: str | None) -> float | None:
    try:
        rate = float(text) if text else None
    except ValueError:
        rate = 0.0
    if rate is not None and not 0 < rate <= 1000:
        raise ConfigurationError(
            f"{info}: frameRate is {text}, expected more than 0 and at most 1,000.", next_step="give --fps"
        )
    return rate


class SequenceSource:
    """The numbered images of one folder."""

    kind = SourceKind.FINITE

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
        self._folder, own_name, own_rate = _find_sequence(path)
        self.name = checked_source(name or own_name)
        self.rate = rate or own_rate or USUAL_RATE
        self.is_rate_known = rate is not None or own_rate is not None
        self.skipped: list[Skipped] = []
        self.files = self._find()
        self._settings = settings
        self.start = (start or self._first_time()).astimezone(UTC)

    @property
    def end(self) -> datetime:
        """Time of the last image, UTC."""
        return self._time_of(self.files[-1].number)

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields the images in the order of their numbers."""
        return capture_images(self.files, self._settings.max_image_bytes, stop, self.skipped, self._frame)

    def _frame(self, image: ImageFile) -> CapturedFrame:
        return CapturedFrame(
            self._time_of(image.file.number),
            ClockSource.PRODUCER,
            data=image.data,
            number=image.file.number,
            name=image.file.name,
            attributes=image.attributes,
        )

    def _time_of(self, number: int) -> datetime:
        return self.start + timedelta(seconds=round((number - self.files[0].number) / self.rate, 6))

    def _first_time(self) -> datetime:
        first = read_image(self.files[0], self._settings.max_image_bytes)
        if isinstance(first, ImageFile):
            return first.own_time(find_timezone(self._settings.timezone))[0]
        return datetime.fromtimestamp(self.files[0].path.stat().st_mtime, UTC)

    def _find(self) -> list[FileToRead]:
        """Returns the numbered images in order; of several with the same number, the first by name."""
        found: dict[int, FileToRead] = {}
        for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else []:
            digits = re.search(r"(\d+)\D*$", path.stem)
            number = int(digits[1]) if digits else -1
            if is_hidden(path.name):
                self.skipped.append(Skipped(path.name, HIDDEN))
            elif path.suffix.lower() not in IMAGE_ENDINGS or not path.is_file():
                self.skipped.append(Skipped(path.name, "not an image"))
            elif not 0 <= number < 2**63:
                self.skipped.append(Skipped(path.name, "its name has no number"))
            elif number in found:
                self.skipped.append(Skipped(path.name, f"{found[number].name} has the same number"))
            else:
                found[number] = FileToRead(path, path.name, number)
        if not found:
            raise ConfigurationError(
                f"{self._folder} contains no numbered images ({', '.join(IMAGE_ENDINGS)}).",
                next_step="name a folder with images such as 0000001.jpg; for others, `imgpipeline ingest folder`",
            )
        return [found[number] for number in sorted(found)]


@dataclass(frozen=True, slots=True)
class SequenceIngest:
    """The result of an ingest of a sequence."""

    source: str
    announced: int
    failed: int
    """Files that are not images, or could not be stored."""
    fps: float
    is_fps_known: bool
    """Whether the rate was given, or read from `seqinfo.ini`."""
    first_time: datetime
    last_time: datetime
    skipped: tuple[Skipped, ...]


def ingest_sequence(
    settings: Settings,
    sequence: SequenceSource,
    *,
    options: PublishOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SequenceIngest:
    """Stores and announces a sequence; arguments and errors as of `folder.ingest_folder`."""
    step = announced_of(progress, len(sequence.files))
    totals = ingest_source(settings, sequence, options=options, progress=step)
    return SequenceIngest(
        source=sequence.name,
        announced=totals.announced,
        failed=totals.failed,
        fps=sequence.rate,
        is_fps_known=sequence.is_rate_known,
        first_time=sequence.start,
        last_time=sequence.end,
        skipped=tuple(sequence.skipped),
    )
