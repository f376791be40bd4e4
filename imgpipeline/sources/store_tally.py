"""Counts what a session puts into the store, beside what it announces."""

import threading

from imgpipeline.sources.images import ImageStore


class _Step(threading.local):
    """Where `store_image` is with the image of this thread."""

    refused: bytes | None = None
    differs = False


class StoreTally:
    """A store that counts the images put into it; thread-safe."""

    def __init__(self, store: ImageStore) -> None:
        """Takes the store that holds the images."""
        self._store = store
        self._lock = threading.Lock()
        self._step = _Step()
        self.new = 0
        """Images that were put under their own keys."""
        self.changed = 0
        """Images that were put beside others of the same key."""

    def create(self, key: str, data: bytes) -> bool:
        """Puts an object unless there is one; returns whether it did."""
        is_beside, self._step.differs = self._step.differs, False
        created = self._store.create(key, data)
        self._step.refused = None if created else data
        with self._lock:
            self.changed += created and is_beside
            self.new += created and not is_beside
        return created

    def get(self, key: str) -> bytes:
        """Returns the bytes of an object."""
        found = self._store.get(key)
        self._step.differs = self._step.refused is not None and found != self._step.refused
        return found
