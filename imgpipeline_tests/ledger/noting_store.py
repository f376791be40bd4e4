"""A store that notes what is asked of it."""

from collections.abc import Iterator
from typing import Any

from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import Fetched, ObjectInfo, open_memory_store


class NotingStore(ObjectStore):
    """The same store as another one, or a store in memory.

    Attributes:
        fetched: The keys of the objects that were read as a whole.
        listed: The prefixes that were listed.
        shown: The keys that the listings gave.
        written: The keys of the objects that were put.
    """

    def __init__(self, store: ObjectStore | None = None) -> None:
        store = store or open_memory_store()
        super().__init__(store.clients, store.url, folder=store.folder)
        self.fetched: list[str] = []
        self.listed: list[str] = []
        self.shown: list[str] = []
        self.written: list[str] = []

    def fetch(self, key: str, **options: Any) -> Fetched:
        self.fetched.append(key)
        return super().fetch(key, **options)

    def list_objects(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        self.listed.append(prefix)
        for info in super().list_objects(prefix, after=after):
            self.shown.append(info.key)
            yield info

    def put(self, key: str, data: bytes | memoryview) -> None:
        self.written.append(key)
        super().put(key, data)
