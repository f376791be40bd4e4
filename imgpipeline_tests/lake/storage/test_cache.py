"""The cache has complete files of one version, stays within its limits, and does not affect open sessions."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imgpipeline.errors import PermanentError
from imgpipeline.lake.storage import cache
from imgpipeline.lake.storage.cache import LakeCache, default_cache_dir, open_cache
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.objectstore.noting import NotingStore
from imgpipeline_tests.servers.waiting import wait_until


@pytest.fixture
def counting(memory: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> NotingStore:
    counting = NotingStore(memory)
    monkeypatch.setattr(cache, "fetch_table", counting.fetch_table)
    return counting


def version(store: ObjectStore, key: str) -> str:
    info = store.head(key)
    assert info is not None
    return info.e_tag


def test_each_version_is_fetched_once(counting, tmp_path):
    kept = LakeCache(counting, tmp_path / "cache")
    counting.put("a/b.parquet", b"one")
    for n in range(3):
        assert kept.link("a/b.parquet", version(counting, "a/b.parquet"), tmp_path / f"{n}" / "b.parquet")
        assert (tmp_path / f"{n}" / "b.parquet").read_bytes() == b"one"
    assert len(counting.fetched) == 1
    counting.put("a/b.parquet", b"two")
    assert kept.link("a/b.parquet", version(counting, "a/b.parquet"), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"two"
    assert len(counting.fetched) == 2


def test_an_object_that_was_replaced_after_it_was_listed_is_kept_under_its_own_version(counting, tmp_path):
    kept = LakeCache(counting, tmp_path / "cache")
    counting.put("k", b"one")
    listed = version(counting, "k")
    counting.put("k", b"two")
    assert kept.link("k", listed, tmp_path / "first")
    assert (tmp_path / "first").read_bytes() == b"two"
    assert kept.link("k", version(counting, "k"), tmp_path / "second")
    assert len(counting.fetched) == 1


def test_an_object_that_is_gone_is_no_error(counting, tmp_path):
    assert not LakeCache(counting, tmp_path).link("gone", "e-tag", tmp_path / "target")


def test_least_recently_used_files_are_removed_first_and_sessions_keep_theirs(counting, tmp_path):
    kept = LakeCache(counting, tmp_path / "cache", most_bytes=250)
    for n, name in enumerate("abc"):
        counting.put(name, name.encode() * 100)
        kept.link(name, version(counting, name), tmp_path / name)
        for file in (tmp_path / "cache" / "objects").iterdir():
            if file.stat().st_mtime > 1000:
                os.utime(file, (n + 1, n + 1))
    kept.link("a", version(counting, "a"), tmp_path / "a again")
    kept.trim()
    assert len(counting.fetched) == 3
    for name in "ac":
        kept.link(name, version(counting, name), tmp_path / f"{name} kept")
    assert len(counting.fetched) == 3
    assert (tmp_path / "b").read_bytes() == b"b" * 100
    kept.link("b", version(counting, "b"), tmp_path / "b fetched again")
    assert len(counting.fetched) == 4


def test_only_the_session_s_own_folder_is_removed_at_its_end(memory, tmp_path):
    with open_cache(memory, tmp_path) as (one, _):
        (one / "file").write_text("x")
        with open_cache(memory, tmp_path) as (other, _):
            assert one.is_dir()
            assert other != one
        assert (one / "file").exists()
        assert not other.exists()
    assert list((tmp_path / "sessions").iterdir()) == []


def test_the_folder_of_a_killed_session_is_removed_by_the_next(memory, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from imgpipeline.lake.storage.cache import open_cache\n"
        "from imgpipeline.objectstore.client import open_memory_store\n"
        "with open_cache(open_memory_store(), Path(sys.argv[1])) as (folder, _):\n"
        "    (folder / 'file').write_text('x'); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    try:
        wait_until(lambda: any(tmp_path.glob("sessions/*/file")), limit_s=60, what="the other session")
        with open_cache(memory, tmp_path):
            assert len(list(tmp_path.glob("sessions/*"))) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    with open_cache(memory, tmp_path) as (folder, _):
        assert list(tmp_path.glob("sessions/*")) == [folder]


def test_the_cache_is_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "imgpipeline" / "lake"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert default_cache_dir() == Path.home() / ".cache" / "imgpipeline" / "lake"


def test_a_cache_that_cannot_be_made_is_named_with_what_to_change(memory, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PermanentError, match="XDG_CACHE_HOME") as error:
        LakeCache(memory, tmp_path / "file")
    assert str(tmp_path / "file") in str(error.value)
