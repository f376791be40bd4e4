"""A watched folder announces each image once, when it is complete, even if the folder disappears for a while."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.objectstore.client import ObjectStore, open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.watched_folder import After, WatchedFolder, WatchOptions
from imgpipeline_tests.servers.disks import bound, mounted_disk
from imgpipeline_tests.servers.threads import in_thread
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import frames_in, read_published
from imgpipeline_tests.sources.test_folder import write_picture

pytestmark = pytest.mark.servers


class Watching:
    """A folder, a topic and a store in memory."""

    def __init__(self, settings: Settings, folder: Path, state: Path) -> None:
        self.settings, self.folder, self.state = settings, folder, state
        self.store: ObjectStore = open_memory_store()
        folder.mkdir()

    @contextmanager
    def running(self, after: After = After.KEEP, rescan_s: float = 0.3) -> Iterator[WatchedFolder]:
        """Watches the folder while the context lasts, then stops as SIGTERM does."""
        options = WatchOptions(after, rescan_s=rescan_s, state_file=self.state)
        source = WatchedFolder(self.settings, self.folder, "gate", options)
        with in_thread(lambda stop: ingest_source(self.settings, source, stop=stop, store=self.store)):
            yield source

    def files(self) -> list[str]:
        """Returns the files of all announced frames, in order."""
        return [str(frame.attributes["file"]) for frame in frames_in(read_published(self.settings))]

    def await_files(self, *names: str) -> None:
        wait_until(lambda: sorted(self.files()) == sorted(names), limit_s=60, what=f"{names} are announced")

    def status_changes(self) -> list[Notice]:
        """Returns the notices that the folder disappeared or came back."""
        found = (record for record in read_published(self.settings) if isinstance(record, Notice))
        return [notice for notice in found if notice.kind in {NoticeKind.OFFLINE, NoticeKind.ONLINE}]

    def await_offline(self, times: int) -> None:
        def count() -> int:
            return sum(notice.kind is NoticeKind.OFFLINE for notice in self.status_changes())

        wait_until(lambda: count() == times, limit_s=60, what="the source is offline")


@pytest.fixture
def watching(settings: Settings, tmp_path: Path) -> Watching:
    return Watching(settings, tmp_path / "in", tmp_path / "state.sqlite")


def test_images_that_appear_are_announced_once(watching, tmp_path):
    write_picture(watching.folder / "there.jpg", shade=1)
    with watching.running():
        watching.await_files("there.jpg")
        write_picture(watching.folder / "new.JPG", shade=2)
        write_picture(watching.folder / "sub" / "deep.png", shade=3)
        write_picture(watching.folder / ".hidden.jpg", shade=4)
        (watching.folder / "notes.txt").touch()
        watching.await_files("there.jpg", "new.JPG", "sub/deep.png")
    with watching.running():
        write_picture(watching.folder / "later.jpg", shade=5)
        write_picture(tmp_path / "made.jpg", shade=6)
        (tmp_path / "made.jpg").rename(watching.folder / "moved-in.jpg")
        watching.await_files("there.jpg", "new.JPG", "sub/deep.png", "later.jpg", "moved-in.jpg")


def test_a_file_is_announced_when_it_is_complete(watching, tmp_path):
    data = write_picture(tmp_path / "made.jpg", shade=9)
    with watching.running(rescan_s=3.0):  # so that a writer that pauses on a busy machine is not done too early
        with (watching.folder / "slow.jpg").open("wb") as slow:
            for part in range(10):
                slow.write(data[part * len(data) // 10 : (part + 1) * len(data) // 10])
                slow.flush()
                time.sleep(0.1)  # each part starts a scan
        watching.await_files("slow.jpg")
    [frame] = frames_in(read_published(watching.settings))
    assert watching.store.get(str(frame.image_path)) == data


def test_a_changed_file_is_another_frame_and_a_touched_one_is_not(watching):
    write_picture(watching.folder / "a.jpg", shade=1)
    with watching.running():
        watching.await_files("a.jpg")
        os.utime(watching.folder / "a.jpg")
        write_picture(watching.folder / "b.jpg", shade=2)
        watching.await_files("a.jpg", "b.jpg")
        (watching.folder / "a.jpg").write_bytes(write_picture(watching.folder / ".c.jpg", shade=99))
        watching.await_files("a.jpg", "b.jpg", "a.jpg")


@pytest.mark.parametrize("after", [After.MOVE, After.DELETE])
def test_files_are_moved_or_deleted_after_their_frames_are_announced(watching, after):
    for number in range(3):
        write_picture(watching.folder / "sub" / f"{number}.jpg", shade=number)
    (watching.folder / "text.jpg").write_text("no image")
    with watching.running(after):
        wait_until(lambda: not list(watching.folder.glob("sub/*.jpg")), limit_s=60, what="the files are put away")
        assert watching.files() == ["sub/0.jpg", "sub/1.jpg", "sub/2.jpg"]
        write_picture(watching.folder / "sub" / "1.jpg", shade=77)
        watching.await_files("sub/0.jpg", "sub/1.jpg", "sub/2.jpg", "sub/1.jpg")
        wait_until(lambda: not list(watching.folder.glob("sub/*.jpg")), limit_s=60, what="the file is put away")
    assert (watching.folder / "text.jpg").exists(), "it was not announced"
    kept = sorted(path.name for path in watching.folder.glob(".ingested/sub/*.jpg"))
    assert kept == (["0.jpg", "1 (2).jpg", "1.jpg", "2.jpg"] if after is After.MOVE else [])


def test_ignored_files_are_counted_and_logged_once_by_their_ending_or_as_empty(watching, tmp_path, caplog):
    for name in ("notes.txt", "more.txt", "list.csv", "zero.jpg", ".hidden", "growing.jpg"):
        (watching.folder / name).touch()
    os.utime(watching.folder / "zero.jpg", (0, 0))
    write_picture(watching.folder / "a.jpg")
    with watching.running() as source:
        watching.await_files("a.jpg")
        write_picture(watching.folder / "b.jpg", shade=2)
        watching.await_files("a.jpg", "b.jpg")
        assert sorted(source.ignored) == ["list.csv", "more.txt", "notes.txt", "zero.jpg"]
        (watching.folder / "zero.jpg").write_bytes(write_picture(tmp_path / "made.jpg"))
        watching.await_files("a.jpg", "b.jpg", "zero.jpg")
        wait_until(lambda: "zero.jpg" not in source.ignored, limit_s=60, what="the file is no longer ignored")
    said = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert len(said) == len(set(said)) == 3
    assert "zero.jpg is ignored: it is empty" in said
    assert sum(".txt is ignored: not one of .jpg" in message for message in said) == 1


def test_a_folder_that_disappears_and_comes_back_announces_nothing_again(watching, tmp_path):
    for number in range(3):
        write_picture(watching.folder / f"{number}.jpg", shade=number)
    with watching.running():
        watching.await_files("0.jpg", "1.jpg", "2.jpg")
        watching.folder.rename(tmp_path / "unmounted")
        watching.await_offline(1)
        watching.folder.mkdir()  # the empty folder below a mount
        write_picture(tmp_path / "unmounted" / "3.jpg", shade=3)
        watching.folder.rmdir()
        (tmp_path / "unmounted").rename(watching.folder)
        watching.await_files("0.jpg", "1.jpg", "2.jpg", "3.jpg")
    assert [notice.kind for notice in watching.status_changes()] == [NoticeKind.OFFLINE, NoticeKind.ONLINE]


@pytest.mark.slow
def test_a_mount_that_disappears_announces_neither_the_folder_below_it_nor_anything_again(watching, tmp_path):
    """The same holds for a restart without the mount, and for a share that comes back as another device."""
    write_picture(watching.folder / "below.jpg", shade=9)
    names = [f"{number}.jpg" for number in range(3)]
    with mounted_disk(tmp_path / "share", 500) as share, mounted_disk(tmp_path / "moved", 500) as moved:
        for number, name in enumerate(names):
            write_picture(share / name, shade=number)
        mount = ExitStack()
        mount.enter_context(bound(share, watching.folder))
        with mount, watching.running():
            watching.await_files(*names)
            mount.close()
            watching.await_offline(1)
        with watching.running():
            watching.await_offline(2)
            shutil.copytree(share, moved, dirs_exist_ok=True, copy_function=shutil.copy)
            write_picture(moved / "3.jpg", shade=3, time=datetime.now(UTC))  # whole together with the copies before it
            with bound(moved, watching.folder):
                watching.await_files(*names, "3.jpg")
    changes = [(notice.kind, notice.reason) for notice in watching.status_changes()]
    away = (NoticeKind.OFFLINE, f"the mount of {watching.folder} is gone")
    assert changes == [away, away, (NoticeKind.ONLINE, f"{watching.folder} is back")]


def test_a_folder_that_cannot_be_watched_is_refused(watching, tmp_path):
    with pytest.raises(ConfigurationError, match="There is no folder"):
        WatchedFolder(watching.settings, tmp_path / "no", "gate", WatchOptions(state_file=tmp_path / "other.sqlite"))
    options = WatchOptions(After.MOVE, watching.folder / "done", state_file=watching.state)
    with pytest.raises(UsageError, match="would be found again"):
        WatchedFolder(watching.settings, watching.folder, "gate", options)
