"""Reads objects that may not fit into memory: a range, the end, or all of it into a local file."""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import PreconditionError

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


def fetch_range(store: ObjectStore, key: str, first: int, behind: int) -> bytes:
    """Returns the bytes `[first, behind)` of an object, in one request.

    Raises:
        ObjectMissingError: There is no such object.
    """
    options: Any = {"range": (first, behind)}
    return store.request("read", key, lambda client: bytes(obstore.get(client, key, options=options).bytes()))


def open_object(store: ObjectStore, info: ObjectInfo) -> io.BufferedReader:
    """Opens one version of an object for reading from start to end.

    Returns:
        A binary file. An object of at most one piece is fetched into memory, a larger one into a temporary file.

    Raises:
        ObjectMissingError: There is no such object.
        OSError: The disk for temporary files is full.
    """
    if info.size_bytes <= PIECE_BYTES:
        return io.BufferedReader(io.BytesIO(store.get(info.key)))
    with tempfile.TemporaryDirectory(prefix="imgpipeline-") as folder:
        path = Path(folder) / "object"
        fetch_to_file(store, info.key, path)
        return path.open("rb")  # stays readable when its folder is gone


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
