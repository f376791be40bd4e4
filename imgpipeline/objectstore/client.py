"""One client for S3, local folders and memory.

Calls are retried for a while, then fail with an error of this project (`failures`). The operations behave in the same
way on every store:

* `create` writes an object only if none exists; of several writers one wins.
* `replace` writes an object only over the version that was read (S3, memory: `If-Match`; folder: a file lock).
* `put` replaces an object as a whole; a reader sees the old or the new one, never a part.
"""

import contextlib
import fcntl
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore, MemoryStore, S3Store

from imgpipeline.contracts.times import utc_now
from imgpipeline.contracts.urls import as_s3_url, folder_of
from imgpipeline.errors import ConfigurationError, PermanentError, TransientError, UsageError
from imgpipeline.objectstore.failures import (
    CLIENT_ERRORS,
    ForbiddenError,
    ObjectMissingError,
    ObjectTooLargeError,
    persist,
    translate,
)
from imgpipeline.settings import Settings

SMALL_BODY_BYTES = 4 * 2**20
"""Bodies up to this size get the time-out of any other request."""
SLOWEST_BYTES_PER_S = 500_000
"""A larger body gets the time that it takes at this rate, 4 Mbit/s."""

_CONNECT_TIMEOUT_S = 5.0
_NO_LIMIT = {"timeout": timedelta(days=1)}
"""The limit of a whole request cannot be switched off, so it is long. `read_timeout` ends a hanging request: it
restarts whenever bytes arrive, so an answer may take as long as it needs. Sending a body does not restart it."""
_NO_RETRIES: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
"""`failures.persist` retries."""


class S3Clients:
    """Clients of one bucket and prefix, one for each size class of bodies, opened on first use. Thread-safe."""

    def __init__(self, settings: Settings, bucket: str, prefix: str | None) -> None:
        """Opens the client for small bodies.

        Raises:
            ConfigurationError: Credentials are missing or incomplete.
        """
        self._options: dict[str, Any] = {**_NO_LIMIT, "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S)}
        self._options["allow_http"] = (settings.s3_endpoint or "").startswith("http://")
        self._timeout_s = settings.store_timeout_s
        self._config, self._bucket, self._prefix = _config(settings), bucket, prefix
        self._lock = threading.Lock()
        self.small = self._open(0)
        self._large: dict[int, S3Store] = {}

    def for_body(self, size_bytes: int) -> S3Store:
        """Returns a client whose time-out is long enough to send a body of this size."""
        if size_bytes <= SMALL_BODY_BYTES:
            return self.small
        most_bytes = 1 << (size_bytes - 1).bit_length()
        with self._lock:
            if most_bytes not in self._large:
                self._large[most_bytes] = self._open(most_bytes)
            return self._large[most_bytes]

    def _open(self, body_bytes: int) -> S3Store:
        silence = timedelta(seconds=self._timeout_s + body_bytes / SLOWEST_BYTES_PER_S)
        limits: Any = {**self._options, "read_timeout": silence}
        return S3Store(
            self._bucket, prefix=self._prefix, config=self._config, client_options=limits, retry_config=_NO_RETRIES
        )


def _config(settings: Settings) -> Any:
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    if bool(key_id) != bool(secret):
        raise ConfigurationError(
            "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set.", next_step="set both, or neither"
        )
    if settings.s3_endpoint and not (key_id and secret):
        raise ConfigurationError(
            f"IMGPIPELINE_S3_ENDPOINT is {settings.s3_endpoint}, but no credentials are set.",
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
    return config


Result = TypeVar("Result")

_PAGE_KEYS = 1000
_OWN_ATTEMPTS = 4
"""Attempts of `create_or_own` after conflicts with other requests; failed requests are retried before."""
_LOCKS = ".locks/"
"""Lock files of `replace` in a folder store, inside it because its parent may not be writable. Never listed."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object in a listing."""

    key: str
    """Key relative to the store's prefix."""
    size_bytes: int
    e_tag: str
    last_modified: datetime
    """When the object was written, UTC, by the store's clock."""

    @classmethod
    def of(cls, entry: Any) -> Self:
        """Returns the description that the client gives of an object."""
        return cls(entry["path"], entry["size"], entry["e_tag"] or "", entry["last_modified"])


@dataclass(slots=True)
class _Pages:
    """A listing that continues after the last received key if the request for a page fails and is repeated.

    This needs a store that lists in order, as S3 does.
    """

    prefix: str | None
    """Prefix of the keys, whole path parts; None for all."""
    after: str | None
    stream: Iterator[Sequence[Any]] | None = None
    """The current request; None before the first one and after a failure."""

    def fetch_next(self, client: Any) -> Sequence[Any] | None:
        """Returns the next entries; nothing at the end."""
        stream, self.stream = self.stream, None
        if stream is None:
            stream = iter(obstore.list(client, self.prefix, offset=self.after, chunk_size=_PAGE_KEYS))
        page = next(stream, None)
        self.stream = stream
        if page:
            self.after = page[-1]["path"]
        return page


@dataclass(frozen=True, slots=True)
class Fetched:
    """One object with the version it was read in."""

    data: bytes
    e_tag: str


class ObjectStore:
    """A store below one prefix. Safe to use from several threads.

    Guarantees:
        Every method raises `TransientError` if the store still fails after the retries, `ForbiddenError` if it refuses,
        `ConfigurationError` if bucket, region or key id are wrong, and `PermanentError` if the disk is full or the
        folder is gone. Only transient failures are retried; the first request may have taken effect.
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
            clients: The client, which adds the store's prefix to all keys.
            url: The store's name in messages, without a secret.
            folder: The folder of a folder store, which needs lock files for conditional writes.
            patience_s: How long a call is retried after its first failure.
        """
        self.clients = clients
        self._store = clients.small if isinstance(clients, S3Clients) else clients
        self.folder = folder
        self._patience_s = patience_s
        self._has_answered = False
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
            max_bytes: Refuse a larger object before its body is loaded.
            admit: Called with the object's size in bytes before its body is loaded; may wait until there is room in
                memory. Called again if the request is repeated.

        Raises:
            ObjectMissingError: There is no such object.
            ObjectTooLargeError: The object is larger than `max_bytes`.
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
            return ObjectInfo.of(self.request("read", key, lambda client: obstore.head(client, key)))
        except ObjectMissingError:
            return None

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Writes an object, replacing an existing one."""
        described = self._description(key)
        self._write(key, data, lambda client: obstore.put(client, key, data, attributes=described, use_multipart=False))

    def upload(self, key: str, file: Path) -> None:
        """Writes a file of any size as an object, in constant memory, replacing an existing object."""
        size_bytes = file.stat().st_size
        client = self.clients.for_body(size_bytes) if isinstance(self.clients, S3Clients) else self.clients
        self.request("write", key, lambda _: obstore.put(client, key, file))

    def create(self, key: str, data: bytes | memoryview) -> bool:
        """Writes an object if none exists.

        Returns:
            True if this call wrote the object, False if the store says that one exists. A request whose answer was lost
            is retried, so False may also mean that this call wrote it (`create_or_own` finds out).
        """

        def create(client: Any) -> bool:
            try:
                obstore.put(client, key, data, attributes=self._description(key), mode="create")
            except AlreadyExistsError:
                return False
            return True

        return self._write(key, data, create)

    def create_or_own(self, key: str, data: bytes | memoryview) -> bool:
        """Writes an object if none exists, and reads it back if the answer does not say who wrote it.

        If it matters who wins, `data` must differ from what any other writer would write, such as by a random id.

        Returns:
            True if the object has exactly this content, False if another writer was first.

        Raises:
            TransientError: The store did not answer in time; it may or may not have the object.
        """
        for _ in range(_OWN_ATTEMPTS):
            failure: TransientError | None = None
            try:
                if self.create(key, data):
                    return True
            except TransientError as error:
                failure = error
            try:
                return self._has_content(key, data)
            except ObjectMissingError:
                if failure is not None:
                    raise failure from None
        raise TransientError(f"Could not write {self.url}/{key}: the store reports that it exists, but has no object.")

    def replace_or_own(self, key: str, data: bytes | memoryview, e_tag: str | None) -> bool:
        """Writes an object over the version that was read; like `create_or_own` if there was none (`e_tag` is None)."""
        if e_tag is None:
            return self.create_or_own(key, data)
        with contextlib.suppress(ObjectMissingError):
            return self.replace(key, data, e_tag) or self._has_content(key, data)
        return False

    def _has_content(self, key: str, data: bytes | memoryview) -> bool:
        try:
            return self.fetch(key, max_bytes=len(data)).data == data
        except ObjectTooLargeError:
            return False

    def replace(self, key: str, data: bytes | memoryview, e_tag: str | None) -> bool:
        """Writes an object over the version that was read.

        `e_tag` is the version that was read; None if there was no object.

        Returns:
            True if this call wrote the object, False if the store has another version. As with `create`, False may also
            mean that this call wrote it (`replace_or_own` finds out).
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
                # A missing bucket and an unknown key id give the same status as a missing version.
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
        pages = _Pages(prefix or None, after)
        while page := self.request("list", prefix, pages.fetch_next):
            for entry in page:
                if not entry["path"].startswith(_LOCKS):
                    yield ObjectInfo.of(entry)

    def list_folders(self, prefix: str) -> list[str]:
        """Returns the sorted names of the folders directly below a prefix."""
        self.check_folder()
        found = self.request("list", prefix, lambda client: obstore.list_with_delimiter(client, prefix))
        names = (name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"])
        return sorted(name for name in names if f"{name}/" != _LOCKS)

    def check_folder(self) -> None:
        """Checks that the folder exists, so that a share that is not mounted does not look like an empty store.

        Raises:
            PermanentError: The folder is gone.
        """
        if self.folder is not None and not self.folder.is_dir():
            raise _gone(self.folder)

    def _description(self, key: str) -> Any:
        """Returns the headers of an object: other programs rely on the type of JSON documents."""
        is_document = key.endswith(".json") and isinstance(self.clients, S3Clients)
        return {"Content-Type": "application/json"} if is_document else None

    def _write(self, key: str, data: bytes | memoryview, attempt: Callable[[Any], Result]) -> Result:
        client = self.clients.for_body(len(data)) if isinstance(self.clients, S3Clients) else self.clients
        return self.request("write", key, lambda _: attempt(client))

    def request(self, action: str, key: str, attempt: Callable[[Any], Result]) -> Result:
        """Makes a request for which this class has no method, with its retries and errors (see `reading`).

        Args:
            action: The action for error messages: `read`, `write`, `list` or `delete`.
            key: The key for error messages.
            attempt: Makes the request with the given obstore client. May be called several times.

        Returns:
            The result of the attempt.
        """

        def translated() -> Result:
            with self._errors(action, key):
                result = attempt(self._store)
            self._has_answered = True
            return result

        return persist(translated, patience_s=self._patience_s, has_answered=self._has_answered)

    @contextlib.contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except CLIENT_ERRORS as error:
            # Not `from error`: the client's text contains the whole answer with the access key id.
            raise translate(error, action, f"{self.url}/{key}") from None

    @contextlib.contextmanager
    def _locked(self, folder: Path, key: str) -> Iterator[None]:
        """Holds a lock on a key for all processes of this machine (a folder store is on one machine)."""
        with self._errors("lock", key):
            (folder / _LOCKS).mkdir(parents=True, exist_ok=True)
            file = (folder / _LOCKS / sha256(key.encode()).hexdigest()[:32]).open("w")
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def open_store(settings: Settings, *, patience_s: float | None = None) -> ObjectStore:
    """Opens the configured store.

    Calls are retried for at most `patience_s`, even if the settings allow more.

    Raises:
        ConfigurationError: The folder cannot be created, or an S3 server is set without credentials.
    """
    parts = urlsplit(settings.store_url)
    if parts.scheme == "file":
        return _open_folder(Path(unquote(parts.path)), settings.store_url)
    clients = S3Clients(settings, parts.netloc, parts.path.strip("/") or None)
    patience_s = min(settings.store_patience_s, settings.store_patience_s if patience_s is None else patience_s)
    return ObjectStore(clients, settings.store_url, patience_s=patience_s)


def open_target(settings: Settings, target: str) -> ObjectStore:
    """Opens `s3://bucket/prefix`, or a folder, for a command that writes there; a missing folder is created.

    Raises:
        ConfigurationError: The folder cannot be created, or an S3 server is set without credentials.
        UsageError: The target is another address.
    """
    url = as_s3_url(target).rstrip("/")
    if "://" not in url:
        url = Path(target).absolute().as_uri()
    elif not url.startswith("s3://"):
        raise UsageError(f"{target} is neither a folder nor in a bucket.", next_step="give DIR or s3://bucket/prefix")
    return open_store(settings.model_copy(update={"store_url": url}))


def open_bucket(settings: Settings, bucket: str) -> ObjectStore:
    """Opens another bucket with the same credentials."""
    return ObjectStore(S3Clients(settings, bucket, None), f"s3://{bucket}", patience_s=settings.store_patience_s)


def open_image_location(settings: Settings, url: str) -> ObjectStore:
    """Opens another bucket (`s3://bucket`) with the same credentials, or another folder (`file:///folder`).

    Raises:
        PermanentError: The folder is missing. A share that is not mounted must not look like an empty folder.
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
        next_step="restore it (is its disk mounted?), or set another one in IMGPIPELINE_STORE_URL or "
        "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS",
    )


def _open_folder(folder: Path, url: str) -> ObjectStore:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The folder {folder} cannot be created: {error.strerror}.",
            next_step="name a folder that this user may write; the store's is IMGPIPELINE_STORE_URL",
        ) from error
    return ObjectStore(LocalStore(prefix=folder), url, folder=folder)


_CONTENDERS = 8


def check_store(store: ObjectStore) -> None:
    """Checks that a store can hold a ledger.

    Raises:
        ConfigurationError: The bucket does not exist, the key id is unknown, or create-only puts do not work.
        ForbiddenError: The credentials are refused.
        TransientError: The store does not answer.
    """
    # Only a listing distinguishes a missing bucket from a missing object.
    next(iter(store.list_objects("metadata")), None)
    key = f"probes/create-only-{uuid4().hex}"
    contents = [f"contender {i}".encode() for i in range(_CONTENDERS)]
    try:
        with ThreadPoolExecutor(_CONTENDERS) as pool:
            won = [
                content
                for content, ok in zip(contents, pool.map(lambda c: store.create(key, c), contents), strict=True)
                if ok
            ]
        stored = store.get(key)
    except ObjectMissingError:
        stored = b""
    finally:
        # A ledger needs no permission to delete; without it, the small object stays.
        with contextlib.suppress(ForbiddenError):
            store.delete(key)
    # A lost answer may leave no winner, but there must not be two winners, or the content of a loser.
    if len(won) > 1 or (won and won != [stored]) or stored not in contents:
        raise ConfigurationError(
            f"{store.url} let {len(won)} of {_CONTENDERS} writers create the same object; exactly one must succeed.",
            next_step="use a store that honours If-None-Match: * on PUT (AWS S3, MinIO, versitygw, a local folder)",
        )


def measure_clock(store: ObjectStore, clock: Callable[[], datetime] = utc_now) -> float:
    """Returns how many seconds this machine's clock is ahead of the store's; 0 if they agree within a second.

    Raises:
        ForbiddenError: The credentials are refused.
        TransientError: The store does not answer.
    """
    before = clock()
    written = ask_time(store)
    after = clock()
    # Stores keep whole seconds. The object was written at some time between both readings of the clock.
    ahead_s = (before - written).total_seconds() - 1
    behind_s = (written - after).total_seconds()
    return ahead_s if ahead_s > 0 else -max(behind_s, 0.0)


def ask_time(store: ObjectStore) -> datetime:
    """Returns the time of the store's clock, by writing an object.

    Raises:
        ForbiddenError: The credentials are refused.
        TransientError: The store does not answer.
    """
    key = "probes/clock"  # always the same: not every account may delete it
    store.put(key, b"")
    written = store.head(key)
    with contextlib.suppress(ForbiddenError):
        store.delete(key)
    return written.last_modified if written else utc_now()
