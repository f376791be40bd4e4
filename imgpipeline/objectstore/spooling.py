"""Reading an object into a local file, however large it is.

Owns one streamed request. It promises that the file and the version belong together, and that no more of the object
than a part is in memory.
"""

from pathlib import Path

import obstore

from imgpipeline.objectstore.client import ObjectStore

_PART_BYTES = 8 * 2**20


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
    with store._errors("read", key):  # the store's own translation, in its own package
        result = obstore.get(store._store, key)
        version: str = result.meta["e_tag"] or ""
        parts = iter(result.stream(min_chunk_size=_PART_BYTES))
    with path.open("wb") as file:
        while True:
            with store._errors("read", key):
                part = next(parts, None)
            if part is None:
                return version
            file.write(part)
