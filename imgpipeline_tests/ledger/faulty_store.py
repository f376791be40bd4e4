"""A store whose puts fail on demand, for the stateful tests of ledger and day tables."""

from collections.abc import Callable

from imgpipeline.contracts.keys import DAY_INDEX, METADATA, RAW_RECORDS
from imgpipeline.errors import TransientError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store


class CrashError(Exception):
    """The process of a writer or builder ends here."""


class FaultyStore(ObjectStore):
    """A store in memory.

    Attributes:
        faults: What happens to the next puts of each kind (`segment`, `index`, `raw record`, `table`), in their order.
        in_between: What another one does in the middle of the put that is `overtaken`.
    """

    def __init__(self) -> None:
        memory = open_memory_store()
        super().__init__(memory.clients, memory.url)
        self.faults: dict[str, list[str]] = {}
        self.in_between: Callable[[], None] | None = None

    def put(self, key: str, data: bytes | memoryview) -> None:
        self._faulty(key, lambda: super(FaultyStore, self).put(key, data))

    def create(self, key: str, data: bytes | memoryview) -> bool:
        return bool(self._faulty(key, lambda: super(FaultyStore, self).create(key, data)))

    def replace(self, key: str, data: bytes | memoryview, e_tag: str | None) -> bool:
        if e_tag is None:
            return self.create(key, data)
        return bool(self._faulty(key, lambda: super(FaultyStore, self).replace(key, data, e_tag)))

    def _faulty(self, key: str, act: Callable[[], object]) -> object:
        kind = {METADATA: "segment", DAY_INDEX: "index", RAW_RECORDS: "raw record"}.get(
            key.split("/", maxsplit=1)[0], "table"
        )
        waiting = self.faults.get(kind, [])
        fault = waiting.pop(0) if waiting else "none"
        if fault == "crash before":
            raise CrashError
        if fault == "not stored":
            raise TransientError("the store did not answer")
        if fault == "overtaken" and self.in_between is not None:
            overtake, self.in_between = self.in_between, None
            overtake()
        done = act()
        if fault == "crash after":
            raise CrashError
        if fault == "answer lost":
            raise TransientError("the store did not answer")
        return False if fault == "lost against itself" else done
