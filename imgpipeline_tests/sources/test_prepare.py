"""`imgpipeline prepare`: names, sizes and times of the copies, and what happens to the originals."""

import errno
from pathlib import Path

import cv2
import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.sources.prepare import PreparedImages, PrepareOptions, prepare
from imgpipeline.sources.video import FrameChoice
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.sources.test_folder import NOON, write_picture
from imgpipeline_tests.sources.videos import write_video


def prepared(path: Path, out: Path, options: PrepareOptions = PrepareOptions()) -> PreparedImages:  # noqa: B008 - a value
    return prepare(Settings(_env_file=None), path, out, options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_copies_are_resized_and_numbered_after_the_highest(tmp_path):
    for name in ("a.jpg", "b.PNG", "c.bmp", "d.tiff", "e.jpeg"):
        write_picture(tmp_path / "new_pics" / name, time=NOON)
    out = tmp_path / "extracted_frames"
    first = prepared(tmp_path / "new_pics", out, PrepareOptions(size=(1280, 720)))
    assert names(out) == [f"frame_{number:06d}.jpg" for number in range(5)]
    assert first.next_number == 5
    assert {cv2.imread(str(path)).shape for path in out.iterdir()} == {(720, 1280, 3)}
    assert {path.stat().st_mtime for path in out.iterdir()} == {NOON.timestamp()}
    (out / "frame_000041.jpg").write_bytes(b"kept")
    second = prepared(tmp_path / "new_pics" / "a.jpg", out)
    assert [one.target for one in second.prepared] == ["frame_000042.jpg"]
    assert (out / "frame_000041.jpg").read_bytes() == b"kept"


def test_an_original_is_deleted_only_after_its_copy_is_written(tmp_path):
    data = write_picture(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "cut.jpg").write_bytes(data[:40])
    result = prepared(tmp_path / "in", tmp_path / "out", PrepareOptions(delete_originals=True))
    assert names(tmp_path / "in") == ["cut.jpg"]
    assert [skipped.path for skipped in result.skipped] == ["cut.jpg"]
    (tmp_path / "blocked").write_text("a file where the folder should be")
    write_picture(tmp_path / "in" / "b.jpg")
    with pytest.raises(ConfigurationError, match="blocked cannot be written"):
        prepared(tmp_path / "in", tmp_path / "blocked", PrepareOptions(delete_originals=True))
    assert names(tmp_path / "in") == ["b.jpg", "cut.jpg"]


def test_an_original_that_cannot_be_deleted_is_named_with_its_copy(tmp_path, monkeypatch):
    write_picture(tmp_path / "in" / "a.jpg")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:  # root may delete anything
        if path.parent.name == "in":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ConfigurationError, match=r"a\.jpg cannot be deleted: Permission denied.*frame_000000\.jpg"):
        prepared(tmp_path / "in", tmp_path / "out", PrepareOptions(delete_originals=True))
    assert names(tmp_path / "out") == ["frame_000000.jpg"]


def test_a_dry_run_writes_and_deletes_nothing(tmp_path):
    write_picture(tmp_path / "in" / "a.jpg")
    options = PrepareOptions(size=(640, 360), dry_run=True, delete_originals=True)
    result = prepared(tmp_path / "in", tmp_path / "out", options)
    assert [(one.original, one.target) for one in result.prepared] == [("a.jpg", "frame_000000.jpg")]
    assert not (tmp_path / "out").exists()
    assert names(tmp_path / "in") == ["a.jpg"]


def test_frames_are_taken_from_a_video(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    prepared(path, tmp_path / "out", PrepareOptions(choice=FrameChoice(count=5)))
    assert names(tmp_path / "out") == [f"frame_{number:06d}.jpg" for number in range(5)]
    assert path.exists()


@pytest.mark.medium
def test_the_command_reports_what_it_did(tmp_path):
    write_picture(tmp_path / "in" / "a.jpg")
    ended = run("prepare", "in", "--output", "out", "--size", "640x360", cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, "prepared: 1; skipped: -; next number: 1; dry run: no\n")
    assert run("prepare", "in", "--output", "out", "--size", "wide", cwd=tmp_path).status == 2
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    ended = run("prepare", "in", "--output", "out", cwd=tmp_path)
    assert ended.stderr.startswith("Skipped: broken.jpg: The JPEG is broken: ")
