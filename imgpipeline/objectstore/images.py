"""Reads announced images, only from the store itself and from allowed buckets, prefixes and folders.

A path that is not allowed causes no network or file access. Image retention records per source and day how many images
it deletes, before it deletes the first one, so a reader can say why an image is missing.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from imgpipeline.contracts.keys import IMAGES, deleted_images_key
from imgpipeline.contracts.urls import as_s3_url, folder_of
from imgpipeline.errors import BadInputError, DeadLetterCode, ImageDeletedError, TransientError
from imgpipeline.objectstore.client import Fetched, ObjectStore, open_image_location
from imgpipeline.objectstore.failures import ForbiddenError, ObjectMissingError, ObjectTooLargeError
from imgpipeline.settings import Settings

Result = TypeVar("Result")
_SUSPICIOUS = re.compile(r"%2e|%2f|%5c|%00|\\|[\x00-\x1f\x7f]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """An allowed path."""

    store: str | None
    """Another bucket (`s3://bucket`) or folder (`file:///folder`); None: the pipeline's own store."""
    key: str
    """Key in that bucket, below that folder, or below the prefix of the pipeline's own store."""


def _refuse(path: str, why: str) -> BadInputError:
    shown = path if len(path) <= 200 else path[:197] + "..."
    return BadInputError(
        DeadLetterCode.PATH_NOT_ALLOWED,
        f"image_path {shown!r}: {why}. Allowed are keys below the store's prefix and the locations in "
        "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS.",
    )


def resolve_image_path(path: str, store_url: str, allowed: tuple[str, ...]) -> ImageLocation:
    """Decides where an announced image may be read.

    Args:
        path: `s3://bucket/key` (or `s3a://`), `/folder/file` (or `file:///`), or a key below the store's prefix.
        store_url: URL of the pipeline's own store.
        allowed: More locations: `s3://bucket/prefix` or `file:///folder`.

    Returns:
        Where to read it.

    Raises:
        BadInputError: `PATH_NOT_ALLOWED`.
    """
    path = as_s3_url(path)
    folder_path = path if path.startswith("/") else folder_of(path)
    if _SUSPICIOUS.search(path) or _SUSPICIOUS.search(folder_path or ""):
        raise _refuse(path, "it contains an escaped or control character")
    if folder_path is not None:
        key = folder_path[1:]
    elif path.startswith("s3://"):
        bucket, _, key = path.removeprefix("s3://").partition("/")
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise _refuse(path, "only s3://, file:/// and keys are read")
    else:
        key = path
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise _refuse(path, "it is empty, or has an empty, `.` or `..` part")
    if folder_path is not None:
        return _in_folder(path, folder_path, store_url, allowed)
    return _in_bucket(path, bucket, key, store_url, allowed) if path.startswith("s3://") else ImageLocation(None, key)


def own_image_keys(paths: Iterable[str], store_url: str) -> Iterator[str]:
    """Yields the keys of the images that are in the pipeline's own store; skips other paths."""
    for path in paths:
        with contextlib.suppress(BadInputError):  # in another bucket, or not a path
            yield resolve_image_path(path, store_url, ()).key


def _in_bucket(path: str, bucket: str, key: str, store_url: str, allowed: tuple[str, ...]) -> ImageLocation:
    own = urlsplit(store_url)
    prefix = own.path.strip("/")
    if own.scheme == "s3" and bucket == own.netloc and _below(key, prefix):
        return ImageLocation(None, key[len(prefix) + 1 :] if prefix else key)
    for location in allowed:
        entry = urlsplit(location)
        if entry.scheme == "s3" and bucket == entry.netloc and _below(key, entry.path.strip("/")):
            return ImageLocation(f"s3://{bucket}", key)
    raise _refuse(path, "that bucket or prefix is not on the list")


def _in_folder(path: str, folder_path: str, store_url: str, allowed: tuple[str, ...]) -> ImageLocation:
    for location in (store_url, *allowed):
        folder = folder_of(location)
        if folder and _below(folder_path, folder):
            return ImageLocation(None if location == store_url else location, folder_path[len(folder) + 1 :])
    raise _refuse(path, "that folder is not on the list")


def _below(key: str, prefix: str) -> bool:
    return not prefix or key.startswith(prefix + "/")


@dataclass(slots=True)
class ImageReader:
    """Reads announced images.

    Guarantees:
        Errors of the path or the object are `BadInputError`s; errors of the store are not.
    """

    store: ObjectStore
    """The pipeline's own store."""
    settings: Settings
    retry_missing: Callable[[Callable[[], Fetched]], Fetched] = field(default=lambda read: read())
    """Repeats a read for a while if the object is missing, since a producer may announce it slightly too early."""
    _others: dict[str, ObjectStore] = field(default_factory=dict)

    def read(self, path: str, *, admit: Callable[[int], None] | None = None) -> Fetched:
        """Returns the announced image.

        `admit` is called with the image's size in bytes before it is loaded, as by `ObjectStore.fetch`.

        Returns:
            The bytes and their version; at least one byte, at most as many as the settings allow.

        Raises:
            BadInputError: `PATH_NOT_ALLOWED`, `OBJECT_NOT_FOUND`, `OBJECT_FORBIDDEN`, `EMPTY_OBJECT`, `TOO_LARGE`.
            TransientError: The store does not answer.
            ForbiddenError: The store refuses access to the pipeline's own prefix too.
            PermanentError: A folder is gone.
        """

        def fetched(store: ObjectStore, key: str) -> Fetched:
            return self.retry_missing(lambda: self._read_bounded(store, key, path, admit))

        return self._ask(path, fetched)

    def version(self, path: str) -> str:
        """Returns the version (e-tag) of an announced image without reading it; raises the errors of `read`."""

        def e_tag(store: ObjectStore, key: str) -> str:
            found = store.head(key)
            if found is None:
                raise ObjectMissingError(f"There is no object {key}.")
            return found.e_tag

        return self._ask(path, e_tag)

    def _ask(self, path: str, ask: Callable[[ObjectStore, str], Result]) -> Result:
        """Calls `ask` with the store and key of an announced image; raises the same errors as `read`."""
        location = resolve_image_path(path, self.settings.store_url, self.settings.allowed_image_locations)
        store = self._store_of(location, path)
        try:
            return ask(store, location.key)
        except ObjectMissingError:
            store.check_folder()
            self._prove_store_works()
            raise self._missing(location, path) from None
        except ForbiddenError:
            self._prove_store_works()
            raise BadInputError(DeadLetterCode.OBJECT_FORBIDDEN, f"The store refuses access to {path}.") from None

    def _missing(self, location: ImageLocation, path: str) -> BadInputError:
        """Returns why an image is missing: image retention, if it has deleted images of the source and day."""
        deleted = deleted_of(self.store, [location.key]) if location.store is None else ()
        if not deleted:
            return BadInputError(DeadLetterCode.OBJECT_NOT_FOUND, f"There is no image at {path}.")
        on = deleted[0].deleted_at.date()
        return ImageDeletedError(f"Image deleted on {on} by image retention: {path}.")

    def _prove_store_works(self) -> None:
        """Raises if the pipeline's own store cannot be read either, so the object is not to blame.

        Listing and reading are separate permissions, so this also reads the head of a listed object.
        """
        try:
            known = next(iter(self.store.list_objects("metadata")), None)
            if known is not None:
                self.store.head(known.key)
        except ObjectMissingError as error:
            raise TransientError(f"{self.store.url} cannot be listed: {error}") from error

    def _store_of(self, location: ImageLocation, path: str) -> ObjectStore:
        if location.store is None:
            return self.store
        if location.store not in self._others:
            self._others[location.store] = open_image_location(self.settings, location.store)
        store = self._others[location.store]
        if store.folder and not (store.folder / location.key).resolve().is_relative_to(store.folder.resolve()):
            raise _refuse(path, "it is a link to a file outside its folder")
        return store

    def _read_bounded(self, store: ObjectStore, key: str, path: str, admit: Callable[[int], None] | None) -> Fetched:
        try:
            fetched = store.fetch(key, max_bytes=self.settings.max_image_bytes, admit=admit)
        except ObjectTooLargeError as error:
            raise BadInputError(DeadLetterCode.TOO_LARGE, str(error)) from None
        if not fetched.data:
            raise BadInputError(DeadLetterCode.EMPTY_OBJECT, f"{path} has no bytes.")
        return fetched


@dataclass(frozen=True, slots=True)
class DeletedImages:
    """The deleted images of one source and day."""

    source: str
    day: date
    """UTC day below which the images were stored."""
    deleted_at: datetime
    """When the last of the images was deleted, UTC."""
    images: int
    """Number of images; up to 1,000 too many if a run was killed."""
    size_bytes: int
    left: int
    """Images that were kept because the ledger has no outcome for them."""
    looked_at: datetime
    """When the day was last checked, UTC."""


_DELETED = TypeAdapter(DeletedImages)


def image_place(key: str) -> tuple[str, date] | None:
    """Returns source and day of the key of an image that this project stored; None for any other key."""
    parts = key.split("/")
    if len(parts) < 4 or parts[0] != IMAGES:
        return None
    try:
        return parts[1], date.fromisoformat(parts[2])
    except ValueError:
        return None


def read_deleted(store: ObjectStore, source: str, day: date) -> DeletedImages | None:
    """Returns the record of a source and day; None if there is none or it cannot be read."""
    try:
        return _DELETED.validate_json(store.get(deleted_images_key(source, day)))
    except (ObjectMissingError, ForbiddenError, ValueError):
        return None


def write_deleted(store: ObjectStore, deleted: DeletedImages) -> None:
    """Replaces the record of a source and day."""
    store.put(deleted_images_key(deleted.source, deleted.day), _DELETED.dump_json(deleted))


def deleted_of(store: ObjectStore, keys: Iterable[str]) -> tuple[DeletedImages, ...]:
    """Returns the records of the sources and days of some images, by source and day."""
    places = sorted({place for place in map(image_place, keys) if place})
    found = (read_deleted(store, source, day) for source, day in places)
    return tuple(deleted for deleted in found if deleted and deleted.images)
