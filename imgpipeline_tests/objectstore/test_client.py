"""Create, replace, put, fetch and list behave in the same way in a folder, in memory and on S3.

A large object can be transferred over a slow line even with a short time-out. A store that cannot hold a ledger is
refused before the first segment.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import numpy as np
import pytest

from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.objectstore import ForbiddenError, ObjectMissingError, ObjectStore, open_store
from imgpipeline.objectstore.client import check_store, measure_clock, open_memory_store
from imgpipeline.objectstore.failures import ObjectTooLargeError
from imgpipeline.objectstore.reading import fetch_to_file
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.faulty_store import FaultyStore
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, s3_settings, store_settings

LARGE = np.arange(2**20, dtype=">u4").tobytes()  # 4 MiB


def keys(store: ObjectStore, prefix: str = "", after: str | None = None) -> list[str]:
    return sorted(info.key for info in store.list_objects(prefix, after=after))


def test_what_was_put_is_fetched_with_its_version(store):
    store.put("a/b", b"one")
    first = store.fetch("a/b")
    store.put("a/b", b"two!")
    second = store.fetch("a/b")
    assert (first.data, second.data) == (b"one", b"two!")
    assert first.e_tag
    assert first.e_tag != second.e_tag
    head = store.head("a/b")
    assert head is not None
    assert (head.key, head.size_bytes, head.e_tag) == ("a/b", 4, second.e_tag)
    assert head.last_modified.utcoffset() is not None


def test_an_object_may_be_empty(store):
    store.put("a/empty", b"")
    assert store.get("a/empty") == b""


def test_a_missing_object_is_none_an_error_or_nothing_to_delete(store):
    assert store.head("a/b") is None
    with pytest.raises(ObjectMissingError, match="a/b: there is no such object"):
        store.get("a/b")
    store.delete("a/b")


def test_create_puts_only_if_no_object_exists(store):
    assert store.create("a/b", b"one")
    assert not store.create("a/b", b"two")
    assert store.get("a/b") == b"one"
    store.delete("a/b")
    assert store.create("a/b", b"three")


def test_replace_puts_only_over_the_version_that_was_read(store):
    assert store.replace("a/b", b"one", None)
    assert not store.replace("a/b", b"again", None)
    read = store.fetch("a/b")
    assert store.replace("a/b", b"two", read.e_tag)
    assert not store.replace("a/b", b"three", read.e_tag)
    assert store.get("a/b") == b"two"
    store.delete("a/b")
    assert not store.replace("a/b", b"four", read.e_tag)
    assert keys(store) == []


@pytest.mark.parametrize("e_tag", [None, "read"], ids=["create", "replace"])
def test_a_writer_recognises_its_own_object_after_a_lost_answer(e_tag):
    store = FaultyStore()
    if e_tag:
        store.put("a/b", b"before")
        e_tag = store.fetch("a/b").e_tag
    store.faults["table"] = ["lost against itself"]
    assert store.replace_or_own("a/b", b"ours", e_tag)
    assert not store.replace_or_own("a/b", b"more", e_tag), "of the same size"
    assert not store.replace_or_own("a/b", b"longer", e_tag)
    assert store.get("a/b") == b"ours"
    store.delete("a/b")
    assert store.replace_or_own("a/b", b"again", e_tag) is (e_tag is None)


def test_a_writer_whose_request_failed_finds_out_whether_the_object_is_its_own():
    store = FaultyStore()
    store.faults["table"] = ["answer lost", "not stored", "lost against itself", "not stored"]
    assert store.create_or_own("a/1", b"ours")
    with pytest.raises(TransientError, match="did not answer"):
        store.create_or_own("a/2", b"ours")
    assert store.create_or_own("a/3", b"ours")
    assert not store.create_or_own("a/3", b"theirs")


def test_an_object_that_exists_for_the_store_but_cannot_be_read_is_a_transient_failure():
    class ConflictingStore(ObjectStore):
        def create(self, _key: str, _data: bytes | memoryview) -> bool:
            return False

    memory = open_memory_store()
    with pytest.raises(TransientError, match="reports that it exists, but has no object"):
        ConflictingStore(memory.clients, memory.url).create_or_own("a", b"ours")


def test_of_many_contenders_one_creates_and_one_replaces(store):
    def race(act) -> list[bool]:
        barrier = threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda number: (barrier.wait(), act(number))[1], range(8)))

    for round_number in range(5):
        key = f"race/{round_number}"
        won = race(lambda number, key=key: store.create(key, b"%d" % number))
        assert won.count(True) == 1
        assert store.get(key) == b"%d" % won.index(True)
        e_tag = store.fetch(key).e_tag
        won = race(lambda number, key=key, e_tag=e_tag: store.replace(key, b"new %d" % number, e_tag))
        assert won.count(True) == 1
        assert store.get(key) == b"new %d" % won.index(True)


@pytest.mark.parametrize("kind", SHARED_KINDS)
def test_two_clients_that_replace_lose_no_update(kind, request):
    settings = store_settings(kind, request)
    open_store(settings).put("count", b"0")

    def count(_: int) -> None:
        store, done = open_store(settings), 0
        while done < 10:
            read = store.fetch("count")
            done += store.replace("count", b"%d" % (int(read.data) + 1), read.e_tag)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(count, range(3)))
    assert open_store(settings).get("count") == b"30"


def test_listing_is_by_whole_path_parts_and_after_a_key(store):
    for key in ("a/3", "a/1", "a/2/x", "ab/1", "b"):
        store.put(key, b"")
    assert keys(store) == ["a/1", "a/2/x", "a/3", "ab/1", "b"]
    assert keys(store, "a") == ["a/1", "a/2/x", "a/3"]
    assert keys(store, "a", after="a/1") == ["a/2/x", "a/3"]
    assert keys(store, after="a/3") == ["ab/1", "b"]
    assert keys(store, "nothing") == []
    assert store.list_folders("") == ["a", "ab"]
    assert store.list_folders("a") == ["2"]
    assert store.list_folders("nothing") == []


def test_several_pages_are_listed_completely_and_in_order_if_promised(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"many/{number:05d}", b""), range(1100)))
    listed = [info.key for info in store.list_objects("many")]
    expected = [f"many/{number:05d}" for number in range(1100)]
    assert (listed if store.lists_in_order else sorted(listed)) == expected


def test_a_listing_may_be_given_up_in_the_middle(store):
    for number in range(5):
        store.put(f"a/{number}", b"")
    listing = store.list_objects("a")
    next(listing)
    listing.close()
    assert len(keys(store, "a")) == 5


def test_an_object_is_admitted_by_its_size_before_it_is_loaded_unless_it_is_too_large(store):
    store.put("a/large", b"x" * 1001)
    sizes: list[int] = []
    assert len(store.fetch("a/large", max_bytes=1001, admit=sizes.append).data) == 1001
    assert sizes == [1001]
    with pytest.raises(ObjectTooLargeError, match="1001 bytes, the limit is 1000"):
        store.fetch("a/large", max_bytes=1000, admit=sizes.append)
    assert sizes == [1001]


@pytest.mark.parametrize("name", ["😀.jpg", "quote'\"", "a b", "q?x=1", "a#b", "100%", "a+b&c", "\u2028", "...", "<b>"])
def test_unusual_names_are_unchanged(store, name):
    assert store.create(f"images/{name}", b"x")
    assert keys(store, "images") == [f"images/{name}"]
    assert store.get(f"images/{name}") == b"x"


@pytest.mark.parametrize("key", ["a/b/c", "x" * 300, "k/" + "é" * 500, "a", "frame#1"])
def test_a_key_that_no_object_can_have_is_a_missing_object(store, key):
    store.put("a/b", b"")
    with pytest.raises(ObjectMissingError):
        store.get(key)


def test_lock_files_of_a_folder_are_inside_it_and_never_listed(tmp_path):
    store = open_store(Settings(_env_file=None, store_url=(tmp_path / "deep" / "store").as_uri()))
    store.put("a", b"1")
    assert store.replace("a", b"2", store.fetch("a").e_tag)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["store"]
    assert keys(store) == ["a"]
    assert store.list_folders("") == []


def test_a_folder_name_may_have_spaces_and_umlauts(tmp_path):
    folder = tmp_path / "ein Ordner %41 für Bilder"
    open_store(Settings(_env_file=None, store_url=folder.as_uri())).put("a", b"1")
    assert (folder / "a").read_bytes() == b"1"


def put_large(store: ObjectStore, e_tag: str, kind: str) -> None:
    if kind == "put":
        store.put("a/old", LARGE * 2)
    elif kind == "create":
        store.create("a/new", LARGE * 2)
    else:
        store.replace("a/old", LARGE * 2, e_tag)


@pytest.mark.parametrize("kind", ["put", "create", "replace"])
def test_a_large_body_gets_the_time_that_a_slow_line_needs(s3, bucket, toxiproxy, kind):
    """8 MiB at 3 MB/s take longer than the time-out of 1 s, in one request."""
    direct = open_store(s3_settings(bucket))
    direct.put("a/old", b"old")
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(
        s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_timeout_s=1.0, store_patience_s=20)
    )
    with proxy.fault("bandwidth", "upstream", rate=3_000):
        put_large(store, direct.fetch("a/old").e_tag, kind)
    proxy.delete()
    assert direct.get("a/new" if kind == "create" else "a/old") == LARGE * 2


@pytest.mark.slow
def test_a_large_answer_may_take_as_long_as_bytes_arrive(s3, bucket, toxiproxy, tmp_path):
    open_store(s3_settings(bucket)).put("a/old", LARGE * 2)
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(
        s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_timeout_s=1.0, store_patience_s=20)
    )
    with proxy.fault("bandwidth", "downstream", rate=3_000):
        assert store.get("a/old") == LARGE * 2
        fetch_to_file(store, "a/old", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == LARGE * 2
    proxy.delete()


@pytest.mark.slow
def test_a_table_that_takes_longer_than_the_time_out_is_stored_through_a_slow_line(s3, bucket, toxiproxy):
    """64 MiB at 3 MB/s, with the default limits."""
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(s3_settings(bucket, s3_endpoint=f"http://{proxy.address}"))
    with proxy.fault("bandwidth", "upstream", rate=3_000):
        assert store.create("a/large", LARGE * 16)
    proxy.delete()
    assert open_store(s3_settings(bucket)).get("a/large") == LARGE * 16


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


def test_a_good_store_passes_and_keeps_nothing(store):
    check_store(store)
    assert list(store.list_objects()) == []


@pytest.mark.parametrize("wrong_s", [0, 120, -120])
def test_the_clock_is_compared_with_the_stores(store, wrong_s):
    def clock() -> datetime:
        return utc_now() + timedelta(seconds=wrong_s)

    assert measure_clock(store, clock) == pytest.approx(wrong_s, abs=2)
    assert list(store.list_objects()) == []


@pytest.mark.parametrize("kind", [OverwritingStore, WinnerLiesStore, ForgettingStore])
def test_a_store_without_create_only_put_is_refused(kind):
    store = kind()
    with pytest.raises(ConfigurationError, match=r"exactly one must succeed.*If-None-Match"):
        check_store(store)
    assert list(store.list_objects()) == []


def test_permission_to_delete_is_not_needed():
    check_store(KeepingStore())
    assert measure_clock(KeepingStore()) == 0
