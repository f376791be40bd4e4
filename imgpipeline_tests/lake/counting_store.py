"""A store in a folder that records which segments are read."""

from typing import Any

from imgpipeline.contracts.keys import METADATA
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import Fetched


class CountingStore(ObjectStore):
    """A store that notes which segments are read."""

    read: list[str]

    def fetch(self, key: str, **options: Any) -> Fetched:
        if key.startswith(f"{METADATA}/"):
            self.read = [*getattr(self, "read", []), key]
        return super().fetch(key, **options)
