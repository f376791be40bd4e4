"""Counts the images that a session adds to the store; `accounts` counts what it announces."""

import threading

from imgpipeline.sources.images import ImageStore


class _Step(threading.local):
    """Where `store_image` is with the image of this thread."""

    refused: bytes | None = None
    differs = False


class StoreTally:
    """A store that counts the images stored in it; thread-safe."""

    def __init__(self, store: ImageStore) -> None:
        """Takes the store that holds the images."""
        self._store = store
        self._lock = threading.Lock()
        self._step = _Step()
        self.new = 0
        """Images stored under their own keys."""
        self.changed = 0
        """Images stored under a key with their digest, because another image has their own key."""

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object; returns False, and changes nothing, if its key exists."""
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
