"""A large object comes into a file as a whole, with its version, or not at all."""

from pathlib import Path

import pytest

from imgpipeline.errors import TransientError
from imgpipeline.objectstore import ObjectMissingError, ObjectStore, open_store
from imgpipeline.objectstore.spooling import fetch_to_file
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer

LARGE = bytes(n % 251 for n in range(999)) * 20_000


@pytest.mark.parametrize("content", [b"", b"PAR1", LARGE], ids=["empty", "small", "20 MB"])
def test_the_file_is_the_object_in_one_version(store: ObjectStore, tmp_path: Path, content: bytes):
    path = tmp_path / "spooled"
    path.write_bytes(b"older and longer than the small one")
    store.put("a/b.parquet", content)
    info = store.head("a/b.parquet")
    assert info is not None
    assert fetch_to_file(store, "a/b.parquet", path) == info.e_tag
    assert path.read_bytes() == content


def test_an_object_that_is_not_there_is_missing(store: ObjectStore, tmp_path: Path):
    with pytest.raises(ObjectMissingError, match=r"a/b\.parquet"):
        fetch_to_file(store, "a/b.parquet", tmp_path / "spooled")


@pytest.mark.servers
def test_an_answer_that_breaks_off_is_gone_on_with_and_never_passes_for_the_whole(
    s3: S3Server, bucket: S3Bucket, toxiproxy: ToxiproxyServer, tmp_path: Path
):
    open_store(s3_settings(bucket)).put("large", LARGE)
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_patience_s=1.0))
    with proxy.fault("limit_data", bytes=len(LARGE) // 2):
        fetch_to_file(store, "large", tmp_path / "spooled")
    assert (tmp_path / "spooled").read_bytes() == LARGE
    with proxy.fault("limit_data", bytes=2_000), pytest.raises(TransientError, match="large"):
        fetch_to_file(store, "large", tmp_path / "spooled")
    proxy.delete()
