"""Which files a job reads, and in which order."""

from pathlib import Path

import pytest

from imgpipeline.compat.mapreduce.inputs import find_job_inputs, open_each
from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.servers.s3_server import S3Bucket

NAMES = (
    "b.json",
    "a/2.json",
    "a/10.json",
    "a-b.json",
    "é.json",
    "_SUCCESS",
    ".b.json.crc",
    "_temporary/x.json",
    "a/.y/z",
)
VISIBLE = ["a-b.json", "a/10.json", "a/2.json", "b.json", "é.json"]


def fill(folder: Path) -> Path:
    for name in NAMES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def read(location: str, settings: Settings | None = None) -> list[str]:
    return [stream.read().decode() for _, stream in open_each(find_job_inputs(location, settings or load_settings()))]


def test_a_folder_is_read_in_the_byte_order_of_names_without_hidden_files(tmp_path: Path):
    assert read(str(fill(tmp_path))) == VISIBLE


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.json", ["a-b.json", "b.json", "é.json"]),
        ("**/*.json", VISIBLE),
        ("[ab].json", ["b.json"]),
        ("a/?.json", ["a/2.json"]),
        ("a*", ["a-b.json", "a/10.json", "a/2.json"]),
        ("_SUCCESS", ["_SUCCESS"]),
        ("_*/*", ["_temporary/x.json"]),
        ("**/.y/*", ["a/.y/z"]),
    ],
)
def test_globs_and_files(tmp_path: Path, pattern: str, found: list[str]):
    assert read(f"{fill(tmp_path)}/{pattern}") == found


@pytest.mark.parametrize("location", ["./*.json", ".//*.json", "../{}/*.json"], ids=["dot", "slashes", "parent"])
def test_a_relative_glob_takes_the_files_of_the_absolute_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
):
    """The name `b.json` has one letter: its dot must not pass for the start of a hidden name."""
    monkeypatch.chdir(fill(tmp_path))
    assert read(location.format(tmp_path.name)) == ["a-b.json", "b.json", "é.json"]


def test_what_is_not_there_is_an_error_and_an_empty_folder_is_not(tmp_path: Path):
    for name in ("nothing", "*.json"):
        with pytest.raises(ConfigurationError, match="There is nothing to read"):
            find_job_inputs(f"{tmp_path}/{name}", load_settings())
    assert read(str(tmp_path)) == []


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path):
    (tmp_path / "a.json").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match=r"a\.json cannot be read: No such file"):
        find_job_inputs(f"{tmp_path}/*.json", load_settings())


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path):
    (tmp_path / "a[1].json").write_text("this")
    (tmp_path / "a1.json").write_text("not this")
    assert read(f"{tmp_path}/a[1].json") == ["this"]


@pytest.fixture
def filled_bucket(bucket: S3Bucket) -> Settings:
    settings = load_settings(
        store_url=bucket.url,
        s3_endpoint=bucket.endpoint,
        s3_access_key_id=bucket.access_key_id,
        s3_secret_access_key=bucket.secret_access_key,
    )
    store = open_store(settings)
    for name in NAMES:
        store.put(f"docs/{name}", name.encode())
    store.put("docs2/other.json", b"other")
    return settings


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("docs", VISIBLE),
        ("docs/", VISIBLE),
        ("docs/a", ["a/10.json", "a/2.json"]),
        ("docs/b.json", ["b.json"]),
        ("docs/*.json", ["a-b.json", "b.json", "é.json"]),
        ("docs/**/*.json", VISIBLE),
        ("docs/a*", ["a-b.json", "a/10.json", "a/2.json"]),
        ("docs/_*/*", ["_temporary/x.json"]),
        ("docs/.b.json.crc", [".b.json.crc"]),
        ("docs/[!b]*.json", ["a-b.json", "é.json"]),
        ("docs/a/?.json", ["a/2.json"]),
        ("*/other.json", ["other"]),
    ],
)
def test_a_prefix_of_a_bucket_is_read_like_a_folder(filled_bucket: Settings, location: str, found: list[str]):
    assert read(f"{filled_bucket.store_url}/{location}", filled_bucket) == found
    assert read(f"{filled_bucket.store_url}/{location}".replace("s3://", "s3a://"), filled_bucket) == found


def test_a_prefix_without_objects_is_an_error(filled_bucket: Settings):
    for name in ("doc", "docs/*.csv", "nothing/"):
        with pytest.raises(ConfigurationError, match="There is nothing to read"):
            find_job_inputs(f"{filled_bucket.store_url}/{name}", filled_bucket)
