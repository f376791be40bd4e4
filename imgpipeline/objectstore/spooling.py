"""Reading an object into a local file, however large it is, with no more than a part of it in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import PreconditionError

from imgpipeline.objectstore.client import ObjectStore

_PART_BYTES = 8 * 2**20


@dataclass(slots=True)
class _Download:
    """A request for one object. After a failure it asks for the bytes that are missing, or for a newer version."""

    client: Any
    key: str
    e_tag: str = ""
    size_bytes: int = -1
    received_bytes: int = 0
    stream: Iterator[Any] | None = None

    def fetch_next(self) -> tuple[int, Any] | None:
        """Returns the next part and its offset in the object; None at the end."""
        if self.received_bytes == self.size_bytes:
            return None
        stream, self.stream = self.stream, None
        stream = stream or self._open()
        part = next(stream, None)
        if part is None:
            return None
        self.stream = stream
        self.received_bytes += len(part)
        return self.received_bytes - len(part), part

    def _open(self) -> Iterator[Any]:
        options: Any = {"range": {"offset": self.received_bytes}, "if_match": self.e_tag} if self.received_bytes else {}
        try:
            result = obstore.get(self.client, self.key, options=options)
        except PreconditionError:
            self.received_bytes = 0
            result = obstore.get(self.client, self.key)
        self.e_tag, self.size_bytes = result.meta["e_tag"] or "", result.meta["size"]
        return iter(result.stream(min_chunk_size=_PART_BYTES))


def fetch_to_file(store: ObjectStore, key: str, path: Path) -> str:
    """Writes an object into a file.

    Args:
        store: The object store.
        key: The object's key.
        path: The file; what was in it is lost. After an error it may hold a part of the object.

    Returns:
        The version (e-tag) that was read.

    Raises:
        ObjectMissingError: There is none.
        OSError: The local disk cannot be used.
    """
    download = _Download(store._store, key)  # the store's own retries and errors, in its own package
    with path.open("wb") as file:
        while (found := store._call("read", key, download.fetch_next)) is not None:
            offset, part = found
            file.seek(offset)
            file.write(part)
        file.truncate()
    return download.e_tag
