"""Reading an object in pieces, as a file: for one that may be larger than memory.

All pieces are of one version: an object that is replaced in between is an error, not a mixture.
"""

import io
from typing import Any

import obstore
from obstore.exceptions import PreconditionError

from imgpipeline.errors import TransientError
from imgpipeline.objectstore.client import ObjectStore
from imgpipeline.objectstore.failures import ObjectMissingError
from imgpipeline.objectstore.listing import ObjectInfo

PIECE_BYTES = 8 * 2**20
"""Bytes of one request."""


class ObjectStream(io.RawIOBase):
    """One object as a binary stream, read forwards.

    Guarantees:
        Holds one piece in memory. Raises what `ObjectStore.get` raises, and `TransientError` where the object was
        replaced while it was read.
    """

    def __init__(self, store: ObjectStore, info: ObjectInfo) -> None:
        """Starts at the object's first byte.

        Args:
            store: The object store.
            info: The object as it was listed.
        """
        self._store = store
        self._info = info
        self._fetched_bytes = 0
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns how many bytes were read."""
        return self._fetched_bytes - len(self._piece)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # RawIOBase hands over a memoryview
        """Fills a buffer as far as the piece at hand goes; 0 at the end."""
        if not self._piece:
            self._piece = memoryview(self._fetch())
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _fetch(self) -> bytes:
        start, end = self._fetched_bytes, min(self._fetched_bytes + PIECE_BYTES, self._info.size_bytes)
        data = _fetch_range(self._store, self._info, start, end) if start < end else b""
        self._fetched_bytes += len(data)
        return data


def _fetch_range(store: ObjectStore, info: ObjectInfo, start: int, end: int) -> bytes:
    options: Any = {"range": (start, end), **({"if_match": info.e_tag} if info.e_tag else {})}

    def fetch() -> bytes | None:
        try:
            return bytes(obstore.get(store._store, info.key, options=options).bytes())
        except PreconditionError:
            return None

    data = store._call("read", info.key, fetch)  # the store's own retries and errors, in its own package
    if data is None:
        raise TransientError(
            f"{store.url}/{info.key} was replaced while it was read.", next_step="run the command again"
        )
    return data


def open_object(store: ObjectStore, key: str) -> io.BufferedReader:
    """Opens an object for reading from its start to its end.

    Args:
        store: The object store.
        key: The object's key.

    Returns:
        A file of bytes.

    Raises:
        ObjectMissingError: There is none.
        TransientError: (while it is read) It was replaced meanwhile, or the store does not answer.
    """
    info = store.head(key)
    if info is None:
        raise ObjectMissingError(f"There is no object {store.url}/{key}.")
    return io.BufferedReader(ObjectStream(store, info), PIECE_BYTES)
