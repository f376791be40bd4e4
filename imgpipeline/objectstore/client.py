"""One client for S3, local folders and memory.

Owns opening the store named by the settings and the few operations this project builds on. It promises bounded
retries and time-outs, errors of this project (`failures`), and one meaning on every store:

* `create` puts an object only where none is; of several contenders one wins.
* `replace` puts an object only over the version that was read (S3, memory: `If-Match`; folder: a file lock).
* `put` replaces an object as a whole; a reader sees the old or the new one, never a part.

Which keys exist does not belong here (`contracts.keys`).
"""

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore, MemoryStore, S3Store

from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore.failures import ObjectMissingError, ObjectTooLargeError, client_errors, translate
from imgpipeline.settings import Settings

_CLIENT_OPTIONS = {"timeout": "15s", "connect_timeout": "5s"}
"""A request, its body included, is given up after this: 15 s carry a table of 100 MB at 55 Mbit/s."""
_RETRIES: dict[str, Any] = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=50),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}
"""Three requests that are not answered in time are outlived; a silent server is given up after a minute. One that
answers 503, or refuses the connection, is given up after five attempts: some 5 s."""

_LOCKS = ".locks/"
"""Lock files of `replace` in a folder store; inside it, since its parent may not be ours to write. Never listed."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing says of one object."""

    key: str
    """Key relative to the store's prefix."""
    size_bytes: int
    """Size of the object."""
    e_tag: str
    """Version of the content, as the store names it."""
    last_modified: datetime
    """When it was put, UTC, by the store's clock."""


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
        Every method raises `TransientError` when the store did not answer well within its retry budget (some
        5 s of errors, a minute of silence), `ForbiddenError` when it refused, `ConfigurationError` when bucket,
        region or key id are wrong, `PermanentError` when the disk is full or the folder is gone.
    """

    def __init__(self, store: S3Store | LocalStore | MemoryStore, url: str, *, folder: Path | None = None) -> None:
        """Wraps an opened client; use `open_store`.

        Args:
            store: The client, already below its prefix.
            url: What to call it in messages; no secret in it.
            folder: The folder of a folder store, which has no conditional put and needs lock files.
        """
        self._store = store
        self._folder = folder
        self.url = url

    @property
    def lists_in_order(self) -> bool:
        """Whether `list_objects` yields keys in order (S3 does, a folder does not)."""
        return isinstance(self._store, S3Store)

    def get(self, key: str) -> bytes:
        """Returns the content of an object; raises `ObjectMissingError` where there is none."""
        return self.fetch(key).data

    def fetch(self, key: str, *, max_bytes: int | None = None) -> Fetched:
        """Returns the content of an object with its version, in one request.

        Args:
            key: Its key.
            max_bytes: Refuse a larger object before its body is loaded.

        Raises:
            ObjectMissingError: There is none.
            ObjectTooLargeError: It is larger than `max_bytes`.
        """
        with self._errors("read", key):
            result = obstore.get(self._store, key)
            size_bytes = result.meta["size"]
            if max_bytes is not None and size_bytes > max_bytes:
                raise ObjectTooLargeError(f"{self.url}/{key} has {size_bytes} bytes, the limit is {max_bytes}.")
            return Fetched(bytes(result.bytes()), result.meta["e_tag"] or "")

    def head(self, key: str) -> ObjectInfo | None:
        """Returns what is known of an object without reading it, or None where there is none."""
        try:
            with self._errors("read", key):
                return _info(obstore.head(self._store, key))
        except ObjectMissingError:
            return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Puts an object, over any that is there."""
        with self._errors("write", key):
            obstore.put(self._store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Puts an object where none is.

        Returns:
            True where this call made it, False where the store says that something is there already. The client
            repeats a request whose answer was lost, so False may mean that this very call put it: only the content
            can tell.
        """
        with self._errors("write", key):
            try:
                obstore.put(self._store, key, data, mode="create")
            except AlreadyExistsError:
                return False
            return True

    def replace(self, key: str, data: bytes | memoryview, e_tag: str | None) -> bool:
        """Puts an object over the version that was read.

        Args:
            key: Its key.
            data: The new content.
            e_tag: Version that was read, None where there was none.

        Returns:
            Whether it was put; False where another version is there. As with `create`, False may mean that this very
            call put it and its answer was lost: read again and compare.
        """
        if e_tag is None:
            return self.create(key, data)
        if self._folder is None:
            with self._errors("write", key):
                try:
                    obstore.put(self._store, key, data, mode={"e_tag": e_tag}, use_multipart=False)
                except (PreconditionError, FileNotFoundError) as error:
                    # A missing bucket and an unknown key id are answered like a version that is gone.
                    if isinstance(translate(error, "read", key), ConfigurationError):
                        raise
                    return False
                return True
        with self._locked(self._folder, key):
            found = self.head(key)
            if found is None or found.e_tag != e_tag:
                return False
            self.put(key, data)
            return True

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        with contextlib.suppress(ObjectMissingError), self._errors("delete", key):
            obstore.delete(self._store, key)

    def list_objects(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Yields the objects below a prefix (whole path parts), on S3 in the order of their keys.

        Args:
            prefix: `metadata/frames`, say, without a final slash; empty for all.
            after: Only keys greater than this one.
        """
        with self._errors("list", prefix):
            self._check_folder()
            for batch in obstore.list(self._store, prefix or None, offset=after, chunk_size=1000):
                for entry in batch:
                    if not entry["path"].startswith(_LOCKS):
                        yield _info(entry)

    def list_folders(self, prefix: str) -> list[str]:
        """Returns the names of the folders right below a prefix, sorted."""
        with self._errors("list", prefix):
            self._check_folder()
            found = obstore.list_with_delimiter(self._store, prefix)
        names = (name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"])
        return sorted(name for name in names if f"{name}/" != _LOCKS)

    def _check_folder(self) -> None:
        """Refuses to take a folder that is gone (a share that is not mounted) for an empty store."""
        if self._folder is not None and not self._folder.is_dir():
            raise PermanentError(
                f"The store's folder {self._folder} is gone.",
                next_step="bring it back (is its disk mounted?), or set IMGPIPELINE_STORE_URL to another one",
            )

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


def _info(entry: Any) -> ObjectInfo:
    return ObjectInfo(entry["path"], entry["size"], entry["e_tag"] or "", entry["last_modified"])


def open_store(settings: Settings) -> ObjectStore:
    """Opens the store that the settings name.

    Raises:
        ConfigurationError: The folder cannot be made, or an S3 server is named without credentials.
    """
    parts = urlsplit(settings.store_url)
    if parts.scheme == "file":
        return _open_folder(Path(unquote(parts.path)), settings.store_url)
    return ObjectStore(_s3_client(settings, parts.netloc, parts.path.strip("/") or None), settings.store_url)


def open_bucket(settings: Settings, bucket: str) -> ObjectStore:
    """Opens another bucket with the same credentials, to read images from."""
    return ObjectStore(_s3_client(settings, bucket, None), f"s3://{bucket}")


def open_memory_store() -> ObjectStore:
    """Opens a store that lives as long as the process, for tests of what does not depend on the kind of store."""
    return ObjectStore(MemoryStore(), "memory://")


def _open_folder(folder: Path, url: str) -> ObjectStore:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The store's folder {folder} cannot be made: {error.strerror}.",
            next_step="set IMGPIPELINE_STORE_URL to a folder that this user may write",
        ) from error
    return ObjectStore(LocalStore(prefix=folder), url, folder=folder)


def _s3_client(settings: Settings, bucket: str, prefix: str | None) -> S3Store:
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    if bool(key_id) != bool(secret):
        raise ConfigurationError(
            "Of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set.", next_step="set both, or neither"
        )
    if settings.s3_endpoint and not (key_id and secret):
        raise ConfigurationError(
            f"IMGPIPELINE_S3_ENDPOINT is {settings.s3_endpoint}, but there are no credentials for it.",
            next_step="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    config: dict[str, Any] = {
        "region": settings.s3_region,
        "virtual_hosted_style_request": settings.s3_endpoint is None,
    }
    if settings.s3_endpoint:
        config["endpoint"] = settings.s3_endpoint
    if key_id and secret:
        config |= {"access_key_id": key_id.get_secret_value(), "secret_access_key": secret.get_secret_value()}
    if settings.s3_session_token:
        config["session_token"] = settings.s3_session_token.get_secret_value()
    plain = (settings.s3_endpoint or "").startswith("http://")
    options: Any = {**_CLIENT_OPTIONS, "allow_http": plain}
    return S3Store(bucket, prefix=prefix, config=config, client_options=options, retry_config=_RETRIES)  # type: ignore[arg-type]  # its TypedDicts
