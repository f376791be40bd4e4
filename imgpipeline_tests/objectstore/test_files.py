"""A location means the same files in the same order, on disk and in a bucket, under every selection."""

from pathlib import Path

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore import open_store
from imgpipeline.objectstore.files import InputFile, Selection, find_inputs
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket

NAMES = ("b.json", "a/2.json", "a/10.json", "a/deep/3.json", "a-b.json", "a.txt", "_c/d.json")
JSON = Selection(endings=(".json",))
ALL_JSON = ["_c/d.json", "a-b.json", "a/10.json", "a/2.json", "a/deep/3.json", "b.json"]


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.servers)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Settings]:
    """A folder or a prefix with the same files, and the settings to read it."""
    if request.param == "folder":
        for name in NAMES:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name)
        return str(tmp_path), load_settings()
    bucket: S3Bucket = request.getfixturevalue("bucket")
    store = open_store(s3_settings(bucket, store_url=f"{bucket.url}/docs"))
    for name in NAMES:
        store.put(name, name.encode())
    return f"{bucket.url}/docs", s3_settings(bucket)


def names(place: tuple[str, Settings], below: str, selection: Selection) -> list[str]:
    return [file.name for file in find_inputs(place[0] + below, place[1], selection)]


def test_a_folder_stands_for_its_files_with_the_endings(place):
    assert names(place, "", JSON) == names(place, "/", JSON) == ALL_JSON
    assert names(place, "/a", JSON) == ["10.json", "2.json", "deep/3.json"]
    assert names(place, "/a", Selection(endings=(".csv",))) == []


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("/*", ["a-b.json", "a.txt", "b.json"]),
        ("/**/*.json", ALL_JSON),
        ("/a/**/*.json", ["10.json", "2.json", "deep/3.json"]),
        ("/a/?.json", ["2.json"]),
        ("/[!b]*.json", ["a-b.json"]),
    ],
    ids=["star", "all", "below", "one letter", "class"],
)
def test_a_glob_stands_for_the_files_it_matches(place, glob, found):
    assert names(place, glob, JSON) == found


def test_a_glob_can_stand_for_the_files_below_its_folders_too(place):
    assert names(place, "/[ab]", Selection(globs_take_folders=True)) == ["a/10.json", "a/2.json", "a/deep/3.json"]


def test_hidden_files_are_skipped_unless_they_are_named(place):
    hidden = Selection(hidden=("_", "."), globs_take_folders=True)
    assert "_c/d.json" not in names(place, "", hidden) + names(place, "/**", hidden)
    assert names(place, "/_c/*", hidden) == ["d.json"]
    assert names(place, "/_*/*", hidden) == ["_c/d.json"]


def test_a_file_can_be_opened_repeatedly(place):
    [file] = find_inputs(f"{place[0]}/a/2.json", place[1], JSON)
    assert isinstance(file, InputFile)
    assert (file.name, file.size_bytes, file.where) == ("2.json", 8, f"{place[0]}/a/2.json")
    for _ in range(2):
        with file.open_raw() as opened:
            assert opened.read() == b"a/2.json"


def test_a_missing_input_is_named(place):
    for missing in ("/absent", "/*.csv"):
        with pytest.raises(ConfigurationError, match="There is nothing to read at"):
            find_inputs(place[0] + missing, place[1], JSON)


def test_an_unreadable_path_is_named_with_the_reason(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read: File name too long"):
        find_inputs(f"{tmp_path}/{'x' * 300}", load_settings(), JSON)


@pytest.mark.parametrize("location", ["./*.json", ".//*.json", "../{}/*.json"], ids=["dot", "slashes", "parent"])
def test_a_relative_glob_takes_the_files_of_the_absolute_one(tmp_path, monkeypatch, location):
    """The name `b.json` has one letter: its dot must not pass for the start of a hidden name."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.json", ".c.json"):
        (tmp_path / name).touch()
    found = find_inputs(location.format(tmp_path.name), load_settings(), Selection(hidden=("_", ".")))
    assert [file.name for file in found] == ["b.json"]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "a.json").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match=r"a\.json cannot be read: No such file"):
        find_inputs(f"{tmp_path}/*.json", load_settings(), JSON)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    for name in ("a[1].json", "a1.json"):
        (tmp_path / name).touch()
    assert [file.name for file in find_inputs(f"{tmp_path}/a[1].json", load_settings(), JSON)] == ["a[1].json"]
