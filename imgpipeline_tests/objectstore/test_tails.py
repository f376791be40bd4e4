"""The end of an object is read in one request, with the version it belongs to."""

import pytest

from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.tails import fetch_tail


@pytest.mark.parametrize("wanted", [1, 8, 999, 1000, 1001, 100_000])
def test_the_last_bytes_come_with_version_and_size(store: ObjectStore, wanted: int):
    content = bytes(n % 251 for n in range(1000))
    store.put("a/b.parquet", content)
    tail = fetch_tail(store, "a/b.parquet", wanted)
    info = store.head("a/b.parquet")
    assert info is not None
    assert (tail.data, tail.e_tag, tail.size_bytes) == (content[-wanted:], info.e_tag, 1000)


def test_an_object_that_is_not_there_is_missing(store: ObjectStore):
    with pytest.raises(ObjectMissingError, match=r"a/b\.parquet"):
        fetch_tail(store, "a/b.parquet", 8)
