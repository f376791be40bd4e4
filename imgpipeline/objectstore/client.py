"""One client for S3, local folders and memory.

Calls are retried for a while (`patience`), then fail with an error of this project (`failures`). The operations mean
the same on every store:

* `create` writes an object only if none exists; of several writers one wins.
* `replace` writes an object only over the version that was read (S3, memory: `If-Match`; folder: a file lock).
* `put` replaces an object as a whole; a reader sees the old or the new one, never a part.
"""

import contextlib
import fcntl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore, MemoryStore

from imgpipeline.contracts.urls import folder_of
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore.failures import ObjectMissingError, ObjectTooLargeError, client_errors, translate
from imgpipeline.objectstore.listing import ObjectInfo, Pages, describe
from imgpipeline.objectstore.patience import persist
from imgpipeline.objectstore.s3 import S3Clients
from imgpipeline.settings import Settings

Result = TypeVar("Result")

_LOCKS = ".locks/"
"""Lock files of `replace` in a folder store, inside it because its parent may not be writable. Never listed."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One object with the version it was read in."""

    data: bytes
    """The whole content."""
    e_tag: str
    """Version of the content, as the store names it."""


class ObjectStore:
    """A store below one prefix. Safe to use from several threads.

    Guarantees:
        Every method raises `TransientError` if the store still fails at the end of the retries, `ForbiddenError` if it
        refuses, `ConfigurationError` if bucket, region or key id are wrong, and `PermanentError` if the disk is full or
        the folder is gone. Only transient failures are retried; a retried request may have taken effect before.
    """

    def __init__(
        self,
        clients: S3Clients | LocalStore | MemoryStore,
        url: str,
        *,
        folder: Path | None = None,
        patience_s: float = 0,
    ) -> None:
        """Wraps an opened client; use `open_store`.

        Args:
            clients: The client, already below its prefix.
            url: Its name in messages, without a secret.
            folder: The folder of a folder store, which needs lock files for conditional writes.
            patience_s: How long a call is retried after its first failure.
        """
        self.clients = clients
        self._store = clients.small if isinstance(clients, S3Clients) else clients
        self.folder = folder
        self._patience_s = patience_s
        self.url = url

    @property
    def lists_in_order(self) -> bool:
        """Whether `list_objects` yields keys in order (S3 does, a folder does not)."""
        return isinstance(self.clients, S3Clients)

    def get(self, key: str) -> bytes:
        """Returns the content of an object; raises `ObjectMissingError` if there is none."""
        return self.fetch(key).data

    def fetch(self, key: str, *, max_bytes: int | None = None, admit: Callable[[int], None] | None = None) -> Fetched:
        """Returns the content of an object with its version, in one request.

        Args:
            key: Its key.
            max_bytes: Refuse a larger object before its body is loaded.
            admit: Called with the object's size in bytes before its body is loaded; may wait until there is room for
                it. Called again if the request is repeated.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectTooLargeError: It is larger than `max_bytes`.
        """

        def fetch(client: Any) -> Fetched:
            result = obstore.get(client, key)
            size_bytes = result.meta["size"]
            if max_bytes is not None and size_bytes > max_bytes:
                raise ObjectTooLargeError(f"{self.url}/{key} has {size_bytes} bytes, the limit is {max_bytes}.")
            if admit is not None:
                admit(size_bytes)
            return Fetched(bytes(result.bytes()), result.meta["e_tag"] or "")

        return self.request("read", key, fetch)

    def head(self, key: str) -> ObjectInfo | None:
        """Returns the description of an object without reading it, or None if there is none."""
        try:
            return describe(self.request("read", key, lambda client: obstore.head(client, key)))
        except ObjectMissingError:
            return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Writes an object, replacing an existing one."""
        self._write(key, data, lambda client: obstore.put(client, key, data, use_multipart=False))

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Writes an object if none exists.

        Returns:
            True if this call wrote it, False if the store says that an object exists. A request whose answer was lost
            is retried, so False may mean that this very call wrote it: only the content can tell.
        """

        def create(client: Any) -> bool:
            try:
                obstore.put(client, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

        return self._write(key, data, create)

    def replace(self, key: str, data: bytes | memoryview, e_tag: str | None) -> bool:
        """Writes an object over the version that was read.

        Args:
            key: Its key.
            data: The new content.
            e_tag: Version that was read, None if there was no object.

        Returns:
            Whether it was written; False if there is another version. As with `create`, False may mean that this call
            wrote it and the answer was lost: read again and compare.
        """
        if e_tag is None:
            return self.create(key, data)
        if self.folder is None:
            return self._replace_version(key, data, e_tag)
        with self._locked(self.folder, key):
            found = self.head(key)
            if found is None or found.e_tag != e_tag:
                return False
            self.put(key, data)
            return True

    def _replace_version(self, key: str, data: bytes | memoryview, e_tag: str) -> bool:
        def replace(client: Any) -> bool:
            try:
                obstore.put(client, key, data, mode={"e_tag": e_tag}, use_multipart=False)
            except (PreconditionError, FileNotFoundError) as error:
                # A missing bucket and an unknown key id are answered like a version that is gone.
                if isinstance(translate(error, "read", key), ConfigurationError):
                    raise
                return False
            return True

        return self._write(key, data, replace)

    def delete(self, key: str) -> None:
        """Deletes an object; a missing one is not an error."""
        with contextlib.suppress(ObjectMissingError):
            self.request("delete", key, lambda client: obstore.delete(client, key))

    def delete_all(self, keys: Sequence[str]) -> None:
        """Deletes objects, on S3 in one request per 1,000; missing ones are not an error."""
        if self.lists_in_order:
            self.request("delete", keys[0], lambda client: obstore.delete(client, list(keys)))
            return
        for key in keys:
            self.delete(key)

    def list_objects(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Yields the objects below a prefix (whole path parts), on S3 in the order of their keys.

        Args:
            prefix: `metadata/frames`, say, without a final slash; empty for all.
            after: Only keys greater than this one.
        """
        self.check_folder()
        pages = Pages(prefix or None, after)
        while page := self.request("list", prefix, pages.fetch_next):
            for entry in page:
                if not entry["path"].startswith(_LOCKS):
                    yield describe(entry)

    def list_folders(self, prefix: str) -> list[str]:
        """Returns the names of the folders right below a prefix, sorted."""
        self.check_folder()
        found = self.request("list", prefix, lambda client: obstore.list_with_delimiter(client, prefix))
        names = (name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"])
        return sorted(name for name in names if f"{name}/" != _LOCKS)

    def check_folder(self) -> None:
        """Fails if the folder is gone (a share that is not mounted), so that it does not pass for an empty store.

        Raises:
            PermanentError: It is gone.
        """
        if self.folder is not None and not self.folder.is_dir():
            raise _gone(self.folder)

    def _write(self, key: str, data: bytes | memoryview, attempt: Callable[[Any], Result]) -> Result:
        client = self.clients.for_body(len(data)) if isinstance(self.clients, S3Clients) else self.clients
        return self.request("write", key, lambda _: attempt(client))

    def request(self, action: str, key: str, attempt: Callable[[Any], Result]) -> Result:
        """Makes a request for which this class has no method, with its retries and errors (see `reading`).

        Args:
            action: What an error says was tried: `read`, `write`, `list` or `delete`.
            key: What an error names.
            attempt: Makes the request with the obstore client that it is given. It may be called several times.

        Returns:
            What the attempt returns.
        """

        def translated() -> Result:
            with self._errors(action, key):
                return attempt(self._store)

        return persist(translated, patience_s=self._patience_s)

    @contextlib.contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except client_errors() as error:
            # Not `from error`: the client's text has the whole answer in it, and with it the access key id.
            raise translate(error, action, f"{self.url}/{key}") from None

    @contextlib.contextmanager
    def _locked(self, folder: Path, key: str) -> Iterator[None]:
        """Holds a lock on a key among the processes of this machine (a folder store is on one machine)."""
        with self._errors("lock", key):
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            file = (folder / _LOCKS / sha256(key.encode()).hexdigest()[:32]).open("w")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def open_store(settings: Settings, *, patience_s: float | None = None) -> ObjectStore:
    """Opens the store that the settings name.

    Args:
        settings: Where it is, and how long calls are retried.
        patience_s: Retry no longer than this, whatever the settings say.

    Raises:
        ConfigurationError: The folder cannot be made, or an S3 server is named without credentials.
    """
    parts = urlsplit(settings.store_url)
    if parts.scheme == "file":
        return _open_folder(Path(unquote(parts.path)), settings.store_url)
    clients = S3Clients(settings, parts.netloc, parts.path.strip("/") or None)
    patience_s = min(settings.store_patience_s, settings.store_patience_s if patience_s is None else patience_s)
    return ObjectStore(clients, settings.store_url, patience_s=patience_s)


def open_bucket(settings: Settings, bucket: str) -> ObjectStore:
    """Opens another bucket with the same credentials."""
    return ObjectStore(S3Clients(settings, bucket, None), f"s3://{bucket}", patience_s=settings.store_patience_s)


def open_image_location(settings: Settings, url: str) -> ObjectStore:
    """Opens another bucket (`s3://bucket`) with the same credentials, or a folder that others fill (`file:///folder`).

    Raises:
        PermanentError: The folder is not there: a share that is not mounted must not pass for an empty folder.
    """
    path = folder_of(url)
    if path is None:
        return open_bucket(settings, url.removeprefix("s3://"))
    folder = Path(path)
    if not folder.is_dir():
        raise _gone(folder)
    return ObjectStore(LocalStore(prefix=folder), url, folder=folder)


def open_memory_store() -> ObjectStore:
    """Opens a store in memory, for tests that do not depend on the kind of store."""
    return ObjectStore(MemoryStore(), "memory://")


def _gone(folder: Path) -> PermanentError:
    return PermanentError(
        f"The folder {folder} is gone.",
        next_step="bring it back (is its disk mounted?), or name another one in IMGPIPELINE_STORE_URL or "
        "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS",
    )


def _open_folder(folder: Path, url: str) -> ObjectStore:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The store's folder {folder} cannot be made: {error.strerror}.",
            next_step="set IMGPIPELINE_STORE_URL to a folder that this user may write",
        ) from error
    return ObjectStore(LocalStore(prefix=folder), url, folder=folder)
