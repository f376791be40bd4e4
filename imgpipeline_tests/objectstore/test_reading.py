"""Objects are read by range, from the end, and into files, always in one version."""

import pytest

from imgpipeline.errors import TransientError
from imgpipeline.objectstore import ObjectMissingError, open_store, reading
from imgpipeline.objectstore.reading import fetch_tail, fetch_to_file, open_object
from imgpipeline_tests.objectstore.stores import s3_settings

LARGE = bytes(n % 251 for n in range(999)) * 20_000


@pytest.mark.parametrize("content", [b"", b"PAR1", LARGE], ids=["empty", "small", "20 MB"])
def test_the_file_is_the_object_in_one_version(store, tmp_path, content):
    path = tmp_path / "spooled"
    path.write_bytes(b"older and longer than the small one")
    store.put("a/b.parquet", content)
    info = store.head("a/b.parquet")
    assert info is not None
    assert fetch_to_file(store, "a/b.parquet", path) == info.e_tag
    assert path.read_bytes() == content


def test_an_object_that_is_not_there_is_missing(store, tmp_path):
    with pytest.raises(ObjectMissingError, match=r"a/b\.parquet"):
        fetch_to_file(store, "a/b.parquet", tmp_path / "spooled")
    with pytest.raises(ObjectMissingError, match=r"a/b\.parquet"):
        fetch_tail(store, "a/b.parquet", 8)


@pytest.mark.servers
def test_an_interrupted_answer_is_continued_and_never_taken_for_the_whole(s3, bucket, toxiproxy, tmp_path):
    open_store(s3_settings(bucket)).put("large", LARGE)
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_patience_s=1.0))
    with proxy.fault("limit_data", bytes=len(LARGE) // 2):
        fetch_to_file(store, "large", tmp_path / "spooled")
    assert (tmp_path / "spooled").read_bytes() == LARGE
    with proxy.fault("limit_data", bytes=2_000), pytest.raises(TransientError, match="large"):
        fetch_to_file(store, "large", tmp_path / "spooled")
    proxy.delete()


@pytest.mark.parametrize("wanted", [1, 8, 999, 1000, 1001, 100_000])
def test_the_last_bytes_come_with_version_and_size(store, wanted):
    content = bytes(n % 251 for n in range(1000))
    store.put("a/b.parquet", content)
    tail = fetch_tail(store, "a/b.parquet", wanted)
    info = store.head("a/b.parquet")
    assert info is not None
    assert (tail.data, tail.e_tag, tail.size_bytes) == (content[-wanted:], info.e_tag, 1000)


@pytest.mark.parametrize("size_bytes", [0, 999, 1000, 1001])
def test_an_object_of_any_size_is_opened_in_one_version(store, monkeypatch, size_bytes):
    monkeypatch.setattr(reading, "PIECE_BYTES", 1_000)
    content = bytes(n % 251 for n in range(size_bytes))
    store.put("a/b", content)
    info = store.head("a/b")
    assert info is not None
    with open_object(store, info) as file:
        store.put("a/b", b"replaced")
        assert (file.read(7), file.tell()) == (content[:7], len(content[:7]))
        assert file.read() == content[7:]
