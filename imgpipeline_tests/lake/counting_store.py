"""A store in a folder that records which segments are read."""

from imgpipeline.contracts.keys import METADATA
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import Fetched


class CountingStore(ObjectStore):
    """A store that notes which segments are read."""

    read: list[str]

    def fetch(self, key: str, *, max_bytes: int | None = None) -> Fetched:
        if key.startswith(f"{METADATA}/"):
            self.read = [*getattr(self, "read", []), key]
        return super().fetch(key, max_bytes=max_bytes)
