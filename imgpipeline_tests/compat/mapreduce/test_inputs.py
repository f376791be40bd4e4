"""Which files a job reads, and in which order; `objectstore/test_files` has the rules of locations."""

import pytest

from imgpipeline.compat.mapreduce.inputs import find_job_inputs, open_each
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.objectstore.stores import s3_settings

NAMES = ("b.json", "a/2.json", "a/10.json", "a-b.json", "é.json", "_SUCCESS", ".b.json.crc", "_temporary/x", "a/.y/z")
VISIBLE = ["a-b.json", "a/10.json", "a/2.json", "b.json", "é.json"]


def read(location: str, settings: Settings) -> list[str]:
    return [stream.read().decode() for _, stream in open_each(find_job_inputs(location, settings))]


def test_a_folder_is_read_in_the_byte_order_of_names_without_hidden_files(tmp_path):
    assert read(str(tmp_path), load_settings()) == []
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert read(str(tmp_path), load_settings()) == VISIBLE
    assert read(f"{tmp_path}/a*", load_settings()) == VISIBLE[:3]


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_a_prefix_of_a_bucket_is_read_like_a_folder(bucket, scheme):
    store = open_store(s3_settings(bucket, store_url=bucket.url))
    store.put("docs2/other.json", b"other")
    for name in NAMES:
        store.put(f"docs/{name}", name.encode())
    location = f"{bucket.url}/docs".replace("s3://", f"{scheme}://")
    assert read(location, s3_settings(bucket)) == read(f"{location}/", s3_settings(bucket)) == VISIBLE
    assert read(f"{location}/a*", s3_settings(bucket)) == VISIBLE[:3]
    assert read(f"{location}/.b.json.crc", s3_settings(bucket)) == [".b.json.crc"]
