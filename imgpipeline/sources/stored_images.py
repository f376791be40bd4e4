"""Sources whose images are stored already: those in a bucket, and the frames of a day in the ledger.

They are announced without copying the images, and without reading them unless further images are derived from them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from threading import Event

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.keys import original_image_key
from imgpipeline.contracts.message_fields import MAX_TEXT, is_storable
from imgpipeline.contracts.outcomes import Frame, make_frame_id
from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import BadInputError, ConfigurationError, UsageError
from imgpipeline.ledger.days import read_day
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore.client import ObjectInfo, ObjectStore, open_bucket
from imgpipeline.objectstore.images import resolve_image_path
from imgpipeline.settings import Settings
from imgpipeline.sources.image_files import FileChoice
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled, SourceKind, StoredImage, checked_source
from imgpipeline.sources.storing import NOT_STORED
from imgpipeline.sources.watched_folder import Version, WatchState, default_state_file

OPTIONS = PublishOptions(queue_frames=1000)
"""Nothing needs to be stored, so announcements go out in large batches."""


@dataclass(frozen=True, slots=True)
class NotAnnounced:
    """An object that is an image by its key but cannot be announced."""

    path: str
    error: str


class BucketSource:
    """The images below a prefix of a bucket; the time of a frame is when its object was written."""

    kind = SourceKind.FINITE

    def __init__(
        self,
        settings: Settings,
        url: str,
        name: str | None = None,
        *,
        suffixes: tuple[str, ...] = (),
        is_remembered: bool = False,
    ) -> None:
        """Checks that the pipeline may read images there; lists nothing yet.

        Args:
            url: `s3://bucket/prefix` (whole parts of keys), or one object.
            name: Source of the frames; None: the last part of the prefix, or the bucket if there is no prefix.
            suffixes: Only keys with these endings, case-sensitive; empty: image endings in upper or lower case.
            is_remembered: Whether objects that this user announced on the topic before are left out. A small file, as
                of a watched folder, remembers them.

        Raises:
            ConfigurationError: The pipeline may not read images there.
            UsageError: The URL or the name of the source is not valid.
        """
        bucket, _, prefix = as_s3_url(url).removeprefix("s3://").partition("/")
        if not as_s3_url(url).startswith("s3://") or not bucket:
            raise UsageError(f"{url} is not a location in a bucket.", next_step="give s3://bucket/prefix")
        self.url = f"s3://{bucket}"
        self.prefix = prefix.strip("/")
        self.name = checked_source(name or self.prefix.rpartition("/")[2] or bucket)
        self.skipped = 0
        self.left_out = 0
        self.failures: list[NotAnnounced] = []
        self._settings = settings
        self._choice = FileChoice(suffixes)
        location = f"{self.url}/{self.prefix}" if self.prefix else self.url
        if self._error(f"{location}/image.jpg"):
            raise ConfigurationError(
                f"The pipeline may not read images in {location}, so their frames would become dead letters.",
                next_step=f"add it to IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS={location}",
            )
        self._store: ObjectStore = open_bucket(settings, bucket)
        self._state = WatchState(default_state_file(settings, self.url, "")) if is_remembered else None

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields the objects in the order of their keys, without folder markers and empty objects."""
        for info in self._objects():
            if stop.is_set():
                return
            if not self._takes(info):
                self.skipped += 1
            elif self._state is not None and self._state.find(info.key)[0] == _version_of(info):
                self.left_out += 1
            elif error := self._error(f"{self.url}/{info.key}"):
                self.failures.append(NotAnnounced(f"{self.url}/{info.key}", error))
                yield Lost("not_allowed", kind=Settled.FAILED, at=info.last_modified)
            else:
                stored = StoredImage(f"{self.url}/{info.key}", size_bytes=info.size_bytes)
                settle = partial(self._settled, info)
                yield CapturedFrame(info.last_modified, ClockSource.PRODUCER, stored=stored, settle=settle)

    def _settled(self, info: ObjectInfo, how: Settled) -> None:
        if how is not Settled.ANNOUNCED:
            self.failures.append(NotAnnounced(f"{self.url}/{info.key}", f"{how.value}: Kafka did not take it"))
        elif self._state is not None:
            self._state.settle(info.key, _version_of(info), info.e_tag)

    def _objects(self) -> Iterator[ObjectInfo]:
        named = self._store.head(self.prefix) if self.prefix else None
        if named is not None and named.size_bytes:
            yield named
        else:
            yield from self._store.list_objects(self.prefix)

    def _takes(self, info: ObjectInfo) -> bool:
        is_derived = original_image_key(info.key) != info.key
        return info.size_bytes > 0 and not is_derived and not self._choice.refuses(info.key.rpartition("/")[2])

    def _error(self, path: str) -> str | None:
        """Returns why an image cannot be announced; None if it can."""
        if len(path) > MAX_TEXT or not is_storable(path):
            return f"its URL is longer than {MAX_TEXT} characters or cannot be stored as text"
        try:
            resolve_image_path(path, self._settings.store_url, self._settings.allowed_image_locations)
        except BadInputError as error:
            return error.message
        return None


def _version_of(info: ObjectInfo) -> Version:
    return Version(info.size_bytes, round(info.last_modified.timestamp() * 1e6) * 1000)


class StoredFrames:
    """The stored frames of one source and day, ordered by time; each keeps its identity."""

    kind = SourceKind.FINITE

    def __init__(self, name: str, frames: list[CapturedFrame]) -> None:
        """Takes the frames of one source."""
        self.name = name
        self.frames = sorted(frames, key=lambda frame: (frame.timestamp, frame.number or 0))

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields the frames."""
        for frame in self.frames:
            if stop.is_set():
                return
            yield frame


def find_stored_frames(store: ObjectStore, day: date, source: str | None = None) -> tuple[list[StoredFrames], int]:
    """Finds the frames of a day in the ledger. A frame that was announced several times is found once.

    Returns:
        The sources, sorted by name, and the number of frames without a stored image.

    Raises:
        LedgerError: A segment cannot be read.
        TransientError: The store does not answer.
    """
    ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    found: dict[str, dict[str, CapturedFrame]] = {}
    missing: set[str] = set()
    for segment in read_day(store, day, ends):
        for outcome in segment.outcomes():
            if not isinstance(outcome, Frame) or outcome.day != day or source not in (None, outcome.source):
                continue
            if not outcome.source_image_path or outcome.attributes.get(NOT_STORED) is False:
                missing.add(outcome.frame_id)
            else:
                found.setdefault(outcome.source, {}).setdefault(outcome.frame_id, _captured(outcome))
    return [StoredFrames(name, list(frames.values())) for name, frames in sorted(found.items())], len(missing)


def _captured(frame: Frame) -> CapturedFrame:
    path, number = frame.source_image_path, frame.frame_number
    named = make_frame_id(frame.source, frame.timestamp, path if number is None else number)
    stored = StoredImage(path, frame.size_bytes, None, frame.image_width, frame.image_height)
    return CapturedFrame(
        frame.timestamp,
        frame.clock_source or ClockSource.PRODUCER,
        stored=stored,
        number=number,
        attributes=frame.attributes,
        has_own_timestamp=named == frame.frame_id,  # otherwise its content identifies it
    )
