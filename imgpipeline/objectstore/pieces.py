"""Reading an object in pieces: for one that may be larger than memory.

Owns the ranged requests. It promises that all pieces are of one version: an object that is replaced in between is an
error, not a mixture.
"""

import io

import obstore
from obstore.exceptions import PreconditionError

from imgpipeline.errors import TransientError
from imgpipeline.objectstore.client import ObjectInfo, ObjectStore

PIECE_BYTES = 8 * 2**20
"""Bytes of one request."""


class ObjectStream(io.RawIOBase):
    """One object as a binary stream, read forwards.

    Guarantees:
        Holds one piece in memory. Raises what `ObjectStore.get` raises, and `TransientError` where the object was
        replaced while it was read.
    """

    def __init__(self, store: ObjectStore, info: ObjectInfo) -> None:
        """Begins at the object's first byte.

        Args:
            store: The object store.
            info: The object as it was listed.
        """
        self._store = store
        self._info = info
        self._position = 0
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # RawIOBase hands over a memoryview
        """Fills a buffer as far as the piece at hand goes; 0 at the end."""
        if not self._piece:
            self._piece = memoryview(self._fetch())
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _fetch(self) -> bytes:
        start = self._position
        end = min(start + PIECE_BYTES, self._info.size_bytes)
        if start >= end:
            return b""
        options = {"range": (start, end), **({"if_match": self._info.e_tag} if self._info.e_tag else {})}
        # The store's own translation, in its own package.
        with self._store._errors("read", self._info.key):
            try:
                data = bytes(obstore.get(self._store._store, self._info.key, options=options).bytes())  # type: ignore[arg-type]  # its TypedDict
            except PreconditionError:
                raise TransientError(
                    f"{self._store.url}/{self._info.key} was replaced while it was read.", next_step="run it again"
                ) from None
        self._position = start + len(data)
        return data
