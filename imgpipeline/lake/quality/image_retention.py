"""Image retention: deletes the oldest images that this project stored, by age or until they fit into a size limit.

Deletes only images below `images/` whose frame has an outcome in the ledger, so a frame that waits for detection keeps
its image. A run deletes a limited number of images; the next one continues.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from imgpipeline.contracts.keys import IMAGES, original_image_key, safe_name
from imgpipeline.contracts.times import day_of
from imgpipeline.errors import UsageError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.objectstore import ObjectInfo, ObjectStore
from imgpipeline.objectstore.images import DeletedImages, image_place, own_image_keys, read_deleted, write_deleted
from imgpipeline.settings import Settings

MOST_IMAGES = 100_000
"""Maximum number of images that a run deletes."""
_BATCH = 1_000
_LOOK_AGAIN = timedelta(days=1)
"""A day that had to keep images is checked again after this time."""
_OUTCOMES = f"""
SELECT DISTINCT source_image_path FROM frames WHERE source_image_path <> ''
UNION
SELECT DISTINCT image_path FROM {SHOWN_LETTERS} WHERE image_path <> ''
"""  # noqa: S608 - own names


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """The images that a run deleted or, in a dry run, would delete."""

    deleted: tuple[DeletedImages, ...]
    left: int
    """Number of images that are due, but whose frames have no outcome in the ledger."""
    is_complete: bool
    """Whether everything that is due was checked; False if the next run must continue."""

    @property
    def images(self) -> int:
        """Number of deleted images."""
        return sum(each.images for each in self.deleted)

    @property
    def size_bytes(self) -> int:
        """Size of the deleted images."""
        return sum(each.size_bytes for each in self.deleted)


def is_retained(settings: Settings) -> bool:
    """Returns whether a limit is set, so that images are deleted at all."""
    return settings.keep_images_days.has_any or settings.keep_images_bytes.has_any


def retain_images(
    store: ObjectStore,
    settings: Settings,
    *,
    now: datetime,
    dry_run: bool = False,
    most_images: int = MOST_IMAGES,
    is_over: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda _: None,
) -> RetentionReport:
    """Deletes images that exceed the age limit, then the oldest ones until the rest fits the size limit.

    Args:
        dry_run: Delete nothing; report what would be deleted.
        most_images: Maximum number of images to delete.
        is_over: Called before each batch; True ends the run.
        progress: Called with the number of images deleted so far.

    Raises:
        UsageError: No limit is set.
        LedgerError: A segment newer than a day's tables cannot be read.
        PermanentError: The store refuses to delete, or a stored table cannot be read.
        TransientError: The store does not answer.
    """
    if not is_retained(settings):
        raise UsageError(
            "No images are deleted: neither limit is set.",
            next_step="set IMGPIPELINE_KEEP_IMAGES_DAYS or IMGPIPELINE_KEEP_IMAGES_BYTES",
        )
    work = _Work(store, settings, now, dry_run, most_images, is_over, progress)
    work.run()
    return RetentionReport(tuple(work.done[place] for place in sorted(work.done)), work.left, not work.is_full)


@dataclass(slots=True)
class _Work:
    """One run."""

    store: ObjectStore
    settings: Settings
    now: datetime
    dry_run: bool
    most_images: int
    is_over: Callable[[], bool]
    progress: Callable[[int], None]
    done: dict[tuple[str, date], DeletedImages] = field(default_factory=dict)
    left: int = 0
    deleted: int = 0
    is_full: bool = False
    _excess_bytes: float = 0
    _simulated: set[str] = field(default_factory=set)

    def run(self) -> None:
        days: dict[date, list[str]] = {}
        for source in self.store.list_folders(IMAGES):
            for name in self.store.list_folders(f"{IMAGES}/{source}"):
                place = image_place(f"{IMAGES}/{source}/{name}/")
                if place:
                    days.setdefault(place[1], []).append(source)
        for day in sorted(days):
            if not self._is_done():
                self._delete_aged(day, days[day])
        for limit_bytes, sources in self._sharing_a_limit({name for names in days.values() for name in names}):
            shared = {day: [name for name in days[day] if name in sources] for day in days}
            self._excess_bytes = self._measure(shared, limit_bytes)
            for day in sorted(shared):
                if self._excess_bytes > 0 and not self._is_done():
                    self._delete_oldest(day, shared[day])

    def _sharing_a_limit(self, sources: set[str]) -> Iterator[tuple[float, set[str]]]:
        """Yields each size limit with the sources that share it. Sources that the setting names have their own."""
        limits = self.settings.keep_images_bytes
        named = {safe_name(name): limit for name, limit in limits.by_source.items()}
        shares = [(limit, {name}) for name, limit in named.items()] + [(limits.default, sources - named.keys())]
        yield from ((limit, sharing) for limit, sharing in shares if limit is not None)

    def _is_done(self) -> bool:
        self.is_full = self.is_full or self.is_over()
        return self.is_full

    def _measure(self, days: dict[date, list[str]], limit_bytes: float) -> float:
        """Returns by how much the images of some sources exceed their limit."""
        if self.is_full:
            return 0
        listed = (info for day, sources in days.items() for info in self._list(day, sources))
        return sum(info.size_bytes for info in listed if info.key not in self._simulated) - limit_bytes

    def _delete_aged(self, day: date, sources: list[str]) -> None:
        """Deletes the images of a day that is old enough, if they were also stored long enough ago."""
        limits = self.settings.keep_images_days
        keep_days = {safe_name(name): days for name, days in limits.by_source.items()}
        due: dict[str, datetime] = {}
        for source in sources:
            days = keep_days.get(source, limits.default)
            before = None if days is None else self.now - timedelta(days=days)
            if before and day < day_of(before) and self._count_due(day, source, before):
                due[source] = before
        paths = self._outcomes(day) if due else set()
        for source, before in due.items():
            self._delete(day, self._stored_before(day, source, before), paths, math.inf)

    def _stored_before(self, day: date, source: str, before: datetime) -> Iterator[ObjectInfo]:
        return (info for info in self._list(day, [source]) if info.last_modified < before)

    def _count_due(self, day: date, source: str, before: datetime) -> int:
        """Counts the images that are due; 0 if an earlier run within a day had to keep the same number."""
        count = sum(1 for _ in self._stored_before(day, source, before))
        known = read_deleted(self.store, source, day)
        if known and known.left == count and self.now - known.looked_at < _LOOK_AGAIN:
            self.left += count
            return 0
        return count

    def _delete_oldest(self, day: date, sources: list[str]) -> None:
        """Deletes the oldest images of a day until the rest fits the limit."""
        room = self.most_images - self.deleted + 1
        listed = (info for info in self._list(day, sources) if info.key not in self._simulated)
        oldest = heapq.nsmallest(room, listed, key=lambda info: (info.last_modified, info.key))
        if oldest:
            self._delete(day, iter(oldest), self._outcomes(day), self._excess_bytes)

    def _delete(self, day: date, images: Iterator[ObjectInfo], paths: set[str], until_bytes: float) -> None:
        batch: list[ObjectInfo] = []
        left: Counter[str] = Counter()
        for info in images:
            if until_bytes <= 0 or self.is_full:
                break
            if original_image_key(info.key) not in paths:
                left[info.key.split("/")[1]] += 1
                continue
            if self.deleted + len(batch) >= self.most_images:
                self.is_full = True
                break
            batch.append(info)
            until_bytes -= info.size_bytes
            if len(batch) == _BATCH:
                self._delete_batch(day, batch)
                batch = []
                self._is_done()
        self._delete_batch(day, batch)
        self.left += left.total()
        for source, count in left.items():
            self._note(source, day, [], left=count)

    def _delete_batch(self, day: date, batch: list[ObjectInfo]) -> None:
        by_source: dict[str, list[ObjectInfo]] = {}
        for info in batch:
            by_source.setdefault(info.key.split("/")[1], []).append(info)
        for source, several in by_source.items():
            self._note(source, day, several, left=0)
            if self.dry_run:
                self._simulated.update(info.key for info in several)
                continue
            reach("delete images", source)
            self.store.delete_all([info.key for info in several])
            reach("delete images done", source)
        self.deleted += len(batch)
        self._excess_bytes -= sum(info.size_bytes for info in batch)
        if batch:
            self.progress(self.deleted)

    def _note(self, source: str, day: date, deleted: list[ObjectInfo], *, left: int) -> None:
        """Adds deleted images to the report and to the stored record."""
        count, size_bytes = len(deleted), sum(info.size_bytes for info in deleted)
        new = DeletedImages(source, day, self.now, count, size_bytes, left, self.now)
        if count:
            self.done[source, day] = _joined(self.done.get((source, day)), new)
        if not self.dry_run:
            write_deleted(self.store, _joined(read_deleted(self.store, source, day), new))

    def _outcomes(self, day: date) -> set[str]:
        """Returns the keys of the images of a day whose frames have an outcome in the ledger."""
        with open_lake(self.store, settings=self.settings, days=[day]) as lake:
            paths = [str(path) for (path,) in lake.query(_OUTCOMES).rows]
        return set(own_image_keys(paths, self.settings.store_url))

    def _list(self, day: date, sources: list[str]) -> Iterator[ObjectInfo]:
        for source in sources:
            yield from self.store.list_objects(f"{IMAGES}/{source}/{day.isoformat()}")


def _joined(known: DeletedImages | None, new: DeletedImages) -> DeletedImages:
    if known is None:
        return new
    at = new.deleted_at if new.images else known.deleted_at
    images, size_bytes = known.images + new.images, known.size_bytes + new.size_bytes
    return replace(new, deleted_at=at, images=images, size_bytes=size_bytes)
