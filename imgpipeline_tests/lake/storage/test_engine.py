"""Temporary folders are removed with their process, or by the next one."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from imgpipeline.lake.storage.engine import open_engine, scratch_folder

_HOLDER = """
import sys
from imgpipeline.lake.storage.engine import open_engine
with open_engine(memory=None) as engine:
    (engine.folder / "spooled").mkdir()
    (engine.folder / "spooled" / "lines.jsonl").write_text("half a line")
    print(engine.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that no other test has, also for child processes."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.mark.medium
def test_the_next_engine_removes_folders_of_killed_processes_and_none_in_use(temporary):
    others = [temporary / "imgpipeline-other", temporary / "results"]
    for other in others:
        other.mkdir()
    holders = [
        subprocess.Popen([sys.executable, "-c", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        killed, alive = (Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout)
        holders[0].kill()
        holders[0].wait(30)
        assert (killed / "spooled" / "lines.jsonl").exists()
        with open_engine(memory=None) as engine:
            assert not killed.exists()
            assert (alive / "spooled" / "lines.jsonl").exists()
            assert set(temporary.iterdir()) == {*others, alive, engine.folder}
        holders[1].communicate("", timeout=30)
        assert set(temporary.iterdir()) == set(others)
    finally:
        for holder in holders:
            holder.kill()
            holder.wait(30)


def test_links_are_not_followed(tmp_path):
    parent, elsewhere = tmp_path / "parent", tmp_path / "elsewhere"
    for folder in (parent, elsewhere):
        folder.mkdir()
    (elsewhere / "kept.txt").write_text("kept")
    (parent / "lake-link").symlink_to(elsewhere)
    (parent / "lake-file").write_text("no folder")
    with scratch_folder(parent, "lake-") as folder:
        assert folder.parent == parent
    assert (elsewhere / "kept.txt").exists()
    assert {path.name for path in parent.iterdir()} == {"lake-link", "lake-file"}
