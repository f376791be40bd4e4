"""A large object can be transferred over a slow line even with a short time-out."""

from pathlib import Path

import numpy as np
import pytest

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.objectstore.reading import fetch_to_file
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer

LARGE = np.arange(2**20, dtype=">u4").tobytes()  # 4 MiB


def put_large(store: ObjectStore, e_tag: str, kind: str) -> None:
    if kind == "put":
        store.put("a/old", LARGE * 2)
    elif kind == "create":
        store.create("a/new", LARGE * 2)
    else:
        store.replace("a/old", LARGE * 2, e_tag)


@pytest.mark.parametrize("kind", ["put", "create", "replace"])
def test_a_large_body_gets_the_time_that_a_slow_line_needs(
    s3: S3Server, bucket: S3Bucket, toxiproxy: ToxiproxyServer, kind: str
) -> None:
    """8 MiB at 3 MB/s take longer than the time-out of 1 s, in one request."""
    direct = open_store(s3_settings(bucket))
    direct.put("a/old", b"old")
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(
        s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_timeout_s=1.0, store_patience_s=0)
    )
    with proxy.fault("bandwidth", "upstream", rate=3_000):
        put_large(store, direct.fetch("a/old").e_tag, kind)
    proxy.delete()
    assert direct.get("a/new" if kind == "create" else "a/old") == LARGE * 2


def test_a_large_answer_may_take_as_long_as_bytes_arrive(
    s3: S3Server, bucket: S3Bucket, toxiproxy: ToxiproxyServer, tmp_path: Path
) -> None:
    open_store(s3_settings(bucket)).put("a/old", LARGE * 2)
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(
        s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_timeout_s=1.0, store_patience_s=0)
    )
    with proxy.fault("bandwidth", "downstream", rate=3_000):
        assert store.get("a/old") == LARGE * 2
        fetch_to_file(store, "a/old", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == LARGE * 2
    proxy.delete()


@pytest.mark.slow
def test_a_table_that_takes_longer_than_the_time_out_is_stored_through_a_slow_line(
    s3: S3Server, bucket: S3Bucket, toxiproxy: ToxiproxyServer
) -> None:
    """64 MiB at 3 MB/s, with the default limits."""
    proxy = toxiproxy.create_proxy(s3.port)
    store = open_store(s3_settings(bucket, s3_endpoint=f"http://{proxy.address}"))
    with proxy.fault("bandwidth", "upstream", rate=3_000):
        assert store.create("a/large", LARGE * 16)
    proxy.delete()
    assert open_store(s3_settings(bucket)).get("a/large") == LARGE * 16
