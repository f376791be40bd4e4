"""A store that notes what is asked of it."""

from collections.abc import Iterator
from pathlib import Path
from threading import Barrier
from typing import Any

from imgpipeline.contracts.keys import METADATA
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import Fetched, ObjectInfo, open_memory_store


class NotingStore(ObjectStore):
    """The same store as another one, or a store in memory.

    Attributes:
        fetched: The keys of the objects that were read as a whole, in order.
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

    def fetch_table(self, store: ObjectStore, key: str, path: Path) -> str:
        """Fetch a table to a file, as the function of this name, and note it."""
        self.fetched.append(key)
        return fetch_table(store, key, path)

    @property
    def segments(self) -> list[str]:
        """The keys of the segments that were read."""
        return [key for key in self.fetched if key.startswith(f"{METADATA}/")]

    def list_objects(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        self.listed.append(prefix)
        for info in super().list_objects(prefix, after=after):
            self.shown.append(info.key)
            yield info

    def put(self, key: str, data: bytes | memoryview) -> None:
        self.written.append(key)
        super().put(key, data)


class MeetingStore(NotingStore):
    """A store whose readers of segments wait for each other, once a test has set where they meet."""

    meeting: Barrier | None = None

    def fetch(self, key: str, **options: Any) -> Fetched:
        if self.meeting is not None and key.startswith(f"{METADATA}/"):
            self.meeting.wait(timeout=30)
        return super().fetch(key, **options)
