"""A store that cannot hold a ledger is refused before the first segment."""

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore import ForbiddenError, ObjectStore
from imgpipeline.objectstore.client import check_store, open_memory_store


class FaultyStore(ObjectStore):
    """A store in memory, to be made faulty."""

    def __init__(self) -> None:
        memory = open_memory_store()
        super().__init__(memory.clients, memory.url)


class OverwritingStore(FaultyStore):
    """Ignores that a put is create-only."""

    def create(self, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True


class WinnerLiesStore(FaultyStore):
    """Tells one writer that it has won, but keeps the object of another one."""

    def create(self, key: str, data: bytes) -> bool:
        self.put(key, b"contender 7")
        return data == b"contender 0"


class ForgettingStore(FaultyStore):
    """Reports success without storing the object."""

    def create(self, key: str, data: bytes) -> bool:
        return bool(key and data)


class KeepingStore(FaultyStore):
    """Refuses all deletions."""

    def delete(self, key: str) -> None:
        raise ForbiddenError(f"Could not delete {key}.")


def test_a_good_store_passes_and_keeps_nothing(store: ObjectStore):
    check_store(store)
    assert list(store.list_objects()) == []


@pytest.mark.parametrize("kind", [OverwritingStore, WinnerLiesStore, ForgettingStore])
def test_a_store_without_create_only_put_is_refused(kind: type[FaultyStore]):
    store = kind()
    with pytest.raises(ConfigurationError, match=r"exactly one must succeed.*If-None-Match"):
        check_store(store)
    assert list(store.list_objects()) == []


def test_permission_to_delete_is_not_needed():
    check_store(KeepingStore())
