"""Reads objects that may not fit into memory: a range, the end, as a stream, or into a local file."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import PreconditionError

from imgpipeline.errors import TransientError
from imgpipeline.objectstore.client import ObjectInfo, ObjectStore

PIECE_BYTES = 8 * 2**20
"""Bytes of one request, and the maximum in memory."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The last bytes of one object, with the version they belong to."""

    data: bytes
    """The last bytes; the whole object if it is shorter than requested."""
    e_tag: str
    size_bytes: int


def fetch_tail(store: ObjectStore, key: str, size_bytes: int) -> Tail:
    """Returns the end of an object, which holds the footer of a Parquet file or bundle, in one request.

    Raises:
        ObjectMissingError: There is no such object.
    """

    def fetch(client: Any) -> Tail:
        result = obstore.get(client, key, options={"range": {"suffix": size_bytes}})
        return Tail(bytes(result.bytes()), result.meta["e_tag"] or "", result.meta["size"])

    return store.request("read", key, fetch)


def fetch_range(store: ObjectStore, key: str, first: int, behind: int, *, e_tag: str = "") -> bytes:
    """Returns the bytes `[first, behind)` of an object, in one request.

    `e_tag` is the version to read; empty: any.

    Raises:
        ObjectMissingError: There is no such object.
        TransientError: The object is no longer in this version.
    """
    options: Any = {"range": (first, behind), **({"if_match": e_tag} if e_tag else {})}

    def fetch(client: Any) -> bytes | None:
        try:
            return bytes(obstore.get(client, key, options=options).bytes())
        except PreconditionError:
            return None

    data = store.request("read", key, fetch)
    if data is None:
        raise TransientError(f"{store.url}/{key} was replaced while it was read.", next_step="run the command again")
    return data


class ObjectStream(io.RawIOBase):
    """One version of an object as a binary stream, fetched in pieces.

    Reads raise the errors of `fetch_range`, so an object that is replaced meanwhile is an error, not a mixture.
    """

    def __init__(self, store: ObjectStore, info: ObjectInfo) -> None:
        """Starts at the first byte of a listed object."""
        self._store = store
        self._info = info
        self._fetched_bytes = 0
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the number of bytes read."""
        return self._fetched_bytes - len(self._piece)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # RawIOBase hands over a memoryview
        """Fills a buffer from the current piece; returns 0 at the end."""
        if not self._piece:
            self._piece = memoryview(self._fetch())
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _fetch(self) -> bytes:
        start, end = self._fetched_bytes, min(self._fetched_bytes + PIECE_BYTES, self._info.size_bytes)
        data = fetch_range(self._store, self._info.key, start, end, e_tag=self._info.e_tag) if start < end else b""
        self._fetched_bytes += len(data)
        return data


def open_object(store: ObjectStore, info: ObjectInfo) -> io.BufferedReader:
    """Opens an object for reading from start to end.

    Returns:
        A binary file. An object of at most one piece is fetched now, in its current version.

    Raises:
        ObjectMissingError: There is no such object.
    """
    if info.size_bytes <= PIECE_BYTES:
        return io.BufferedReader(io.BytesIO(store.get(info.key)))
    return io.BufferedReader(ObjectStream(store, info), PIECE_BYTES)


@dataclass(slots=True)
class _Download:
    """The download of one object. After a failure, requests the missing bytes, or all bytes of a newer version."""

    key: str
    e_tag: str = ""
    size_bytes: int = -1
    received_bytes: int = 0
    stream: Iterator[Any] | None = None

    def fetch_next(self, client: Any) -> tuple[int, Any] | None:
        """Returns the next part and its position in the object; None at the end."""
        if self.received_bytes == self.size_bytes:
            return None
        stream, self.stream = self.stream, None
        stream = stream or self._open(client)
        part = next(stream, None)
        if part is None:
            return None
        self.stream = stream
        self.received_bytes += len(part)
        return self.received_bytes - len(part), part

    def _open(self, client: Any) -> Iterator[Any]:
        options: Any = {"range": {"offset": self.received_bytes}, "if_match": self.e_tag} if self.received_bytes else {}
        try:
            result = obstore.get(client, self.key, options=options)
        except PreconditionError:
            self.received_bytes = 0
            result = obstore.get(client, self.key)
        self.e_tag, self.size_bytes = result.meta["e_tag"] or "", result.meta["size"]
        return iter(result.stream(min_chunk_size=PIECE_BYTES))


def fetch_to_file(store: ObjectStore, key: str, path: Path) -> str:
    """Downloads an object into a file.

    Replaces the file's content; after an error it may contain a part of the object.

    Returns:
        The downloaded version (e-tag).

    Raises:
        ObjectMissingError: There is no such object.
        OSError: The local disk cannot be used.
    """
    download = _Download(key)
    with path.open("wb") as file:
        while (found := store.request("read", key, download.fetch_next)) is not None:
            position, part = found
            file.seek(position)
            file.write(part)
        file.truncate()
    return download.e_tag
