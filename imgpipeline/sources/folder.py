"""A folder of images as a source: each image is stored under `images/` and announced in Kafka.

* A frame is announced after its image is stored, with its size and hash.
* Ingesting the same folder again announces the same frames: a frame is identified by source, time and path below the
  folder, so nothing is counted twice, and frames that a crash left out are added. With `start` and `interval`, frames
  are numbered in the order of their paths instead: new images have to sort after the others.
* Files that are not announced are listed with the reason, including files that are not images by their content. A
  damaged image is announced; the pipeline records it as a dead letter.
* A stored image is never overwritten: an image that changed under the same name is stored, and counted, as another
  frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from imgpipeline.contracts.image_keys import ImageKeyTemplate
from imgpipeline.contracts.message_fields import MAX_TEXT
from imgpipeline.contracts.messages import FrameMessage, MessageFormat
from imgpipeline.contracts.timezones import find_timezone
from imgpipeline.errors import BadInputError, UsageError
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.ahead import map_ahead
from imgpipeline.settings import Settings
from imgpipeline.sources.exif_time import read_taken_time
from imgpipeline.sources.file_kinds import HEAD_BYTES, describe_other
from imgpipeline.sources.walk import Skipped, find_pictures, path_below
from imgpipeline.stream.announce import Announcer
from imgpipeline.vision.header import read_header

_WRITERS = 8
_AHEAD = 16


class Announces(Protocol):
    """What a folder needs of an announcer."""

    def announce(self, message: FrameMessage) -> None:
        """Announces one frame."""


class Stored(StrEnum):
    """What became of an image at the store."""

    NEW = "new"
    """It was put."""
    ALREADY_THERE = "already_there"
    """The same bytes were there."""
    CHANGED = "changed"
    """Other bytes were there under its name; it was put beside them."""


@dataclass(frozen=True, slots=True)
class FolderIngest:
    """What became of a folder."""

    source: str
    """The source that the frames were announced under."""
    announced: int
    """Frames in Kafka, already stored ones included."""
    stored: int
    """Images that were put now."""
    already_there: int
    """Images that an earlier ingest had put, with the same bytes."""
    changed: int
    """Images that were put beside others of the same name and day."""
    size_bytes: int
    """Bytes of all announced images."""
    first_time: datetime | None
    """Earliest time of a frame, UTC; None where there are none."""
    last_time: datetime | None
    """Latest time of a frame, UTC; None where there are none."""
    skipped: tuple[Skipped, ...]
    """Files that were not announced."""


class IngestInterrupted(KeyboardInterrupt):
    """Ctrl-C ended an ingest before its last frame.

    Attributes:
        announced: Frames that Kafka has acknowledged.
        files: Files that were to be announced.
    """

    def __init__(self, announced: int, files: int) -> None:
        super().__init__()
        self.announced = announced
        self.files = files


@dataclass(frozen=True, slots=True)
class Pace:
    """Times for pictures that have none that means anything: `start`, `start + interval` and so on."""

    start: datetime
    """Time of the first picture, aware."""
    interval: timedelta
    """From one picture to the next, greater than 0."""

    def time_of(self, number: int) -> datetime:
        """Returns the time of a picture by its number, UTC."""
        return (self.start + number * self.interval).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class _Put:
    message: FrameMessage
    how: Stored


def ingest_folder(
    settings: Settings,
    path: Path,
    source: str,
    *,
    pace: Pace | None = None,
    message_format: MessageFormat = MessageFormat.NATIVE,
    store: ObjectStore | None = None,
    announcer: Announces | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FolderIngest:
    """Stores and announces the pictures of a folder, or one picture.

    A picture's time is EXIF's `DateTimeOriginal`, else the file's modification time, unless a pace is given.

    Args:
        settings: Name store and topic.
        path: The folder, which is read with all folders below it, or one file.
        source: Under which the frames are announced, 1 to 1,024 characters.
        pace: Times instead of the pictures' own.
        message_format: How the frames are announced; of no effect where an announcer is given.
        store: Where to put the images; None: the one of the settings.
        announcer: Already in its context; None: one of its own, for the topic of the settings.
        progress: Called with the number of announced pictures and of all.

    Returns:
        What became of it.

    Raises:
        ConfigurationError: There is no such folder, it holds no images, or a setting is wrong.
        UsageError: The source has no proper name.
        IngestInterrupted: Ctrl-C was pressed, and no announcer was given.
        TransientError: Store or broker do not answer; ingesting the folder again makes up for what is missing.
    """
    _check_source(source)
    files, skipped = find_pictures(path)
    store = store or open_store(settings)
    if announcer is not None:
        return _ingest(_Folder(settings, store, path, source, pace), announcer, files, skipped, progress)
    own = Announcer(settings, message_format=message_format)
    try:
        with own:
            return _ingest(_Folder(settings, store, path, source, pace), own, files, skipped, progress)
    except KeyboardInterrupt as interrupt:
        raise IngestInterrupted(own.acknowledged, len(files)) from interrupt


def _check_source(source: str) -> None:
    if not source.strip() or len(source) > MAX_TEXT or "\0" in source or not source.isprintable():
        raise UsageError(
            f"The source {source!r} has no proper name.", next_step=f"name it in 1 to {MAX_TEXT} printable characters"
        )


def _ingest(
    folder: "_Folder",
    announcer: Announces,
    files: list[Path],
    skipped: list[Skipped],
    progress: Callable[[int, int], None] | None,
) -> FolderIngest:
    done: list[_Put] = []
    # Several are stored at a time, but announced in their order.
    for result in map_ahead(lambda item: folder.put(*item), enumerate(files), workers=_WRITERS, ahead=_AHEAD):
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            announcer.announce(result.message)
            done.append(result)
        if progress:
            progress(len(done), len(files))
    times = [put.message.timestamp for put in done]
    return FolderIngest(
        source=folder.source,
        announced=len(done),
        stored=sum(put.how is Stored.NEW for put in done),
        already_there=sum(put.how is Stored.ALREADY_THERE for put in done),
        changed=sum(put.how is Stored.CHANGED for put in done),
        size_bytes=sum(put.message.size_bytes or 0 for put in done),
        first_time=min(times, default=None),
        last_time=max(times, default=None),
        skipped=tuple(skipped),
    )


@dataclass(frozen=True, slots=True)
class _Folder:
    """Puts the pictures of one folder; `put` may be called from several threads."""

    settings: Settings
    store: ObjectStore
    path: Path
    source: str
    pace: Pace | None

    def put(self, number: int, file: Path) -> _Put | Skipped:
        name = path_below(self.path, file)
        try:
            stat = file.stat()
            if stat.st_size > self.settings.max_image_bytes:
                limit = f"the limit is {self.settings.max_image_bytes} (IMGPIPELINE_MAX_IMAGE_BYTES)"
                return Skipped(name, f"{stat.st_size} bytes; {limit}")
            data = file.read_bytes()
        except OSError as error:
            return Skipped(name, f"cannot be read: {error.strerror}")
        if other := describe_other(data[:HEAD_BYTES], file):
            return Skipped(name, f"not an image: {other.what}")
        zone, modified = find_timezone(self.settings.timezone), datetime.fromtimestamp(stat.st_mtime, UTC)
        time = self.pace.time_of(number) if self.pace else (read_taken_time(data, zone) or modified)
        digest = sha256(data).hexdigest()
        key, how = self._store(name, number, time, data, digest)
        width, height = _size_of(data)
        message = FrameMessage(
            source=self.source,
            image_path=key,
            timestamp=time,
            frame_number=number if self.pace else None,
            width=width,
            height=height,
            size_bytes=len(data),
            sha256=digest,
            attributes={"file": name.encode("utf-8", "replace").decode()},
        )
        return _Put(message, how)

    def _store(self, name: str, number: int, time: datetime, data: bytes, digest: str) -> tuple[str, Stored]:
        template = ImageKeyTemplate(self.settings.image_key_template)
        key = template.key(self.source, time, digest, name=name, number=number)
        if self.store.create(key, data):
            return key, Stored.NEW
        if sha256(self.store.get(key)).hexdigest() == digest:
            return key, Stored.ALREADY_THERE
        key = template.key(self.source, time, digest, name=name, number=number, beside_other=True)
        return key, Stored.CHANGED if self.store.create(key, data) else Stored.ALREADY_THERE


def _size_of(data: bytes) -> tuple[int | None, int | None]:
    """Returns width and height of the upright picture, or neither where the header cannot be read."""
    try:
        header = read_header(data)
    except BadInputError:
        return None, None
    turned = header.orientation >= 5
    return (header.height, header.width) if turned else (header.width, header.height)
