"""Reads announced images, from the store itself and from the allowed buckets and prefixes only.

A path that is not allowed causes no network or file access.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import BadInputError, DeadLetterCode, ImageDeletedError, TransientError
from imgpipeline.objectstore.client import Fetched, ObjectStore, open_bucket
from imgpipeline.objectstore.deleted_images import deleted_of
from imgpipeline.objectstore.failures import ForbiddenError, ObjectMissingError, ObjectTooLargeError
from imgpipeline.settings import Settings

_SUSPICIOUS = re.compile(r"%2e|%2f|%5c|%00|\\|[\x00-\x1f\x7f]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """A path that was allowed."""

    bucket: str | None
    """Another bucket, or None for the pipeline's own store."""
    key: str
    """Key in that bucket, or below the own store's prefix."""


def _refuse(path: str, why: str) -> BadInputError:
    shown = path if len(path) <= 200 else path[:197] + "..."
    return BadInputError(
        DeadLetterCode.PATH_NOT_ALLOWED,
        f"image_path {shown!r}: {why}. Allowed are keys below the store's prefix and what "
        "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS names.",
    )


def resolve_image_path(path: str, store_url: str, allowed: tuple[str, ...]) -> ImageLocation:
    """Decides where an announced image may be read.

    Args:
        path: `s3://bucket/key` (or `s3a://`), or a key below the store's prefix.
        store_url: URL of the own store.
        allowed: Further `s3://bucket/prefix` locations.

    Returns:
        Where to read it.

    Raises:
        BadInputError: `PATH_NOT_ALLOWED`.
    """
    if _SUSPICIOUS.search(path):
        raise _refuse(path, "it holds an escaped or control character")
    path = as_s3_url(path)
    if path.startswith("s3://"):
        bucket, _, key = path.removeprefix("s3://").partition("/")
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        raise _refuse(path, "only s3:// and keys are read")
    else:
        bucket, key = None, path
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts):
        raise _refuse(path, "it is absolute, empty, or has an empty, `.` or `..` part")
    if bucket is None:
        return ImageLocation(None, key)
    own = urlsplit(store_url)
    prefix = own.path.strip("/")
    if own.scheme == "s3" and bucket == own.netloc and _below(key, prefix):
        return ImageLocation(None, key[len(prefix) + 1 :] if prefix else key)
    for location in allowed:
        entry = urlsplit(location)
        if entry.scheme == "s3" and bucket == entry.netloc and _below(key, entry.path.strip("/")):
            return ImageLocation(bucket, key)
    raise _refuse(path, "that bucket or prefix is not on the list")


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
    """For the allow-list, the size limit and the credentials of further buckets."""
    retry_missing: Callable[[Callable[[], Fetched]], Fetched] = field(default=lambda read: read())
    """Repeats a read for a while if the object is missing (a producer may announce slightly too early)."""
    _buckets: dict[str, ObjectStore] = field(default_factory=dict)

    def read(self, path: str, *, admit: Callable[[int], None] | None = None) -> Fetched:
        """Returns the announced image.

        Args:
            path: As announced.
            admit: Called with the image's size in bytes before it is loaded, as by `ObjectStore.fetch`.

        Returns:
            Its bytes and their version; at least one byte, at most as many as the settings allow.

        Raises:
            BadInputError: `PATH_NOT_ALLOWED`, `OBJECT_NOT_FOUND`, `OBJECT_FORBIDDEN`, `EMPTY_OBJECT`, `TOO_LARGE`.
            TransientError: The store is in trouble.
            ForbiddenError: The store refuses the pipeline's own prefix too.
        """
        location = resolve_image_path(path, self.settings.store_url, self.settings.allowed_image_locations)
        store = self._store_of(location)
        try:
            return self.retry_missing(lambda: self._read_bounded(store, location.key, path, admit))
        except ObjectMissingError:
            self._prove_store_works()
            raise self._missing(location, path) from None
        except ForbiddenError:
            self._prove_store_works()
            raise BadInputError(DeadLetterCode.OBJECT_FORBIDDEN, f"The store refuses access to {path}.") from None

    def _missing(self, location: ImageLocation, path: str) -> BadInputError:
        """Returns why an image is not there: image retention, if it has deleted images of the source and day."""
        deleted = deleted_of(self.store, [location.key]) if location.bucket is None else ()
        if not deleted:
            return BadInputError(DeadLetterCode.OBJECT_NOT_FOUND, f"There is no image at {path}.")
        on = deleted[0].deleted_at.date()
        return ImageDeletedError(f"Image deleted on {on} by image retention: {path}.")

    def _prove_store_works(self) -> None:
        """Raises if the pipeline's own store cannot be read either: then the object is not to blame.

        Listing and reading are separate rights; so an object that is known is looked at too, where there is one.
        """
        try:
            known = next(iter(self.store.list_objects("metadata")), None)
            if known is not None:
                self.store.head(known.key)
        except ObjectMissingError as error:
            raise TransientError(f"{self.store.url} cannot be listed: {error}") from error

    def _store_of(self, location: ImageLocation) -> ObjectStore:
        if location.bucket is None:
            return self.store
        if location.bucket not in self._buckets:
            self._buckets[location.bucket] = open_bucket(self.settings, location.bucket)
        return self._buckets[location.bucket]

    def _read_bounded(self, store: ObjectStore, key: str, path: str, admit: Callable[[int], None] | None) -> Fetched:
        try:
            fetched = store.fetch(key, max_bytes=self.settings.max_image_bytes, admit=admit)
        except ObjectTooLargeError as error:
            raise BadInputError(DeadLetterCode.TOO_LARGE, str(error)) from None
        if not fetched.data:
            raise BadInputError(DeadLetterCode.EMPTY_OBJECT, f"{path} has no bytes.")
        return fetched
