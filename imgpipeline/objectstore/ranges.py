"""Reading a large object in pieces, as a file.

Owns the ranged requests. It promises that all pieces are of one version of the object: where it was replaced in
between, the reading fails. It holds one piece in memory.
"""

import io
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import PreconditionError

from imgpipeline.errors import TransientError
from imgpipeline.objectstore.client import ObjectStore
from imgpipeline.objectstore.failures import ObjectMissingError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE_BYTES = 8 * 2**20
"""Bytes of one request: the time-out of a request is for that many."""


class ObjectFile(io.RawIOBase):
    """An object as a file to be read once, from its begin."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        """Asks for the object's size and version; use `open_object`.

        Args:
            store: The object store.
            key: The object's key.

        Raises:
            ObjectMissingError: There is none.
        """
        info = store.head(key)
        if info is None:
            raise ObjectMissingError(f"There is no object {store.url}/{key}.")
        self._store = store
        self._info = info
        self._position = 0

    @property
    def size_bytes(self) -> int:
        """Size of the object."""
        return self._info.size_bytes

    def readable(self) -> bool:
        """It can be read."""
        return True

    def tell(self) -> int:
        """Returns how many bytes were read."""
        return self._position

    def readinto(self, target: "WriteableBuffer") -> int:
        """Reads the next bytes, at most as many as the target holds."""
        view = memoryview(target)
        behind = min(self._position + len(view), self._info.size_bytes)
        if self._position >= behind:
            return 0
        piece = self._fetch(self._position, behind)
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _fetch(self, first: int, behind: int) -> bytes:
        key = self._info.key
        with self._store._errors("read", key):  # the store's own translation, in its own package
            try:
                options: obstore.GetOptions = {"range": (first, behind), "if_match": self._info.e_tag}
                return bytes(obstore.get(self._store._store, key, options=options).bytes())
            except PreconditionError:
                raise TransientError(
                    f"{self._store.url}/{key} was replaced while it was read.", next_step="run the command again"
                ) from None


def open_object(store: ObjectStore, key: str) -> tuple[io.BufferedReader, int]:
    """Opens an object for reading from its begin to its end.

    Args:
        store: The object store.
        key: The object's key.

    Returns:
        A file of bytes, and the object's size in bytes.

    Raises:
        ObjectMissingError: There is none.
        TransientError: (while it is read) It was replaced meanwhile, or the store does not answer.
    """
    raw = ObjectFile(store, key)
    return io.BufferedReader(raw, PIECE_BYTES), raw.size_bytes
