"""All images of a folder are stored and announced, in order, and as the same frames each time."""

import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.outcomes import make_frame_id
from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore.client import ObjectStore, open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.folder import Pace, open_folder
from imgpipeline.sources.ingest import FinishedIngest, ingest_files
from imgpipeline.stream.log import read_log
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published
from imgpipeline_tests.sources.test_image_files import jpeg, tiff_block

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def write_picture(path: Path, *, shade: int = 100, time: datetime = NOON) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = cv2.imencode(path.suffix.lower(), np.full((6, 10, 3), shade, np.uint8))[1].tobytes()
    path.write_bytes(data)
    os.utime(path, (time.timestamp(), time.timestamp()))
    return data


class Site:
    """A topic and a store in memory, into which folders are ingested."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.store = settings, open_memory_store()

    def ingest(
        self, folder: Path, *, settings: dict[str, Any] | None = None, pace: Pace | None = None, **options: Any
    ) -> tuple[FinishedIngest, list[FrameMessage], ObjectStore]:
        """Returns the result of the ingest, the frames that it announced, and the store."""
        before = len(self._announced())
        chosen = self.settings.model_copy(update=settings or {})
        result = ingest_files(chosen, open_folder(chosen, folder, "gate", pace), store=self.store, **options)
        return result, self._announced()[before:], self.store

    def _announced(self) -> list[FrameMessage]:
        return frames_in(read_published(self.settings))


@pytest.fixture
def site(settings: Settings) -> Site:
    return Site(settings)


def frame_ids(announced: list[FrameMessage]) -> list[str]:
    return [
        make_frame_id(m.source, m.timestamp, m.image_path if m.frame_number is None else m.frame_number)
        for m in announced
    ]


def test_every_picture_is_stored_and_announced_in_the_order_of_paths(site, tmp_path):
    names = ["a.jpg", "b-a.jpg", "b/a.jpg", "b/a.png", "b/c.webp", "c.JPEG", "c/a.jpg"]
    contents = [write_picture(tmp_path / name, shade=shade * 20) for shade, name in enumerate(names)]
    progress: list[tuple[int, int]] = []
    result, announced, store = site.ingest(tmp_path, progress=lambda *done: progress.append(done))
    assert [m.attributes["file"] for m in announced] == names
    assert len({m.image_path for m in announced}) == 7
    assert [store.get(m.image_path) for m in announced] == contents
    assert [m.sha256 for m in announced] == [sha256(data).hexdigest() for data in contents]
    assert [m.size_bytes for m in announced] == [len(data) for data in contents]
    assert {(m.width, m.height) for m in announced} == {(10, 6)}
    assert all(m.image_path.startswith("images/gate/2026-01-09/") for m in announced)
    assert (result.announced, result.stored, result.already_there, result.skipped) == (7, 7, 0, ())
    assert result.size_bytes == sum(map(len, contents))
    assert progress == sorted(progress)
    assert progress[-1] == (7, 7)
    assert {total for _, total in progress} == {7}


def test_ingesting_a_folder_again_announces_the_same_frames_and_counts_them_as_stored_already(site, tmp_path):
    for number in range(20):
        write_picture(tmp_path / f"{number}.jpg", shade=number)
    first, before, _ = site.ingest(tmp_path)
    write_picture(tmp_path / "0-new.jpg", shade=200)
    second, after, _ = site.ingest(tmp_path)
    assert (first.stored, first.already_there) == (20, 0)
    assert (second.stored, second.already_there, second.announced) == (1, 20, 21)
    assert set(frame_ids(before)) < set(frame_ids(after))
    assert len(set(frame_ids(after))) == 21


def test_a_changed_picture_is_another_frame_and_the_old_image_stays(site, tmp_path):
    old = write_picture(tmp_path / "a.jpg", shade=10)
    _, before, store = site.ingest(tmp_path)
    new = write_picture(tmp_path / "a.jpg", shade=250)
    result, after, _ = site.ingest(tmp_path)
    assert (result.changed, result.stored, result.already_there) == (1, 0, 0)
    assert before[0].image_path == "images/gate/2026-01-09/a.jpg"
    assert store.get(before[0].image_path) == old
    assert store.get(after[0].image_path) == new
    assert frame_ids(before) != frame_ids(after)
    again, same, _ = site.ingest(tmp_path)
    assert again.already_there == 1
    assert frame_ids(same) == frame_ids(after)


def test_the_exif_time_wins_over_the_modification_time_and_is_local_time_of_the_site(site, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(tiff_block("<", taken="2026:01:01 05:44:59")))
    write_picture(tmp_path / "b.png", time=NOON + timedelta(microseconds=250_000))
    _, announced, _ = site.ingest(tmp_path, settings={"timezone": "Asia/Kathmandu"})
    assert announced[0].timestamp == datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert announced[0].image_path.startswith("images/gate/2025-12-31/")
    assert announced[1].timestamp == NOON + timedelta(microseconds=250_000), "without an EXIF time"
    assert announced[1].frame_number is None


def test_a_pace_gives_the_same_times_and_numbers_each_time(site, tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_picture(tmp_path / name, time=datetime(2001, 1, 1, tzinfo=UTC))
    pace = Pace(NOON, 0.5)
    result, announced, _ = site.ingest(tmp_path, pace=pace)
    assert [m.timestamp for m in announced] == [NOON + timedelta(seconds=n / 2) for n in range(3)]
    assert [m.frame_number for m in announced] == [0, 1, 2]
    assert (result.first_time, result.last_time) == (NOON, NOON + timedelta(seconds=1))
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    assert frame_ids(site.ingest(tmp_path, pace=pace)[1]) == frame_ids(announced)


def test_other_files_are_counted_and_named(site, tmp_path):
    write_picture(tmp_path / "a.jpg")
    write_picture(tmp_path / "big.png")
    (tmp_path / "big.png").write_bytes((tmp_path / "big.png").read_bytes() + b"x" * 2000)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "x.jpg").mkdir()
    (tmp_path / "x.jpg" / "list.db").write_text("no picture")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    result, announced, _ = site.ingest(tmp_path, settings={"max_image_bytes": 1500})
    assert len(announced) == 1
    reasons = {skipped.path: skipped.reason for skipped in result.skipped}
    assert reasons.keys() == {"big.png", "notes.txt", "x.jpg/list.db", "gone.jpg"}
    assert "IMGPIPELINE_MAX_IMAGE_BYTES" in reasons["big.png"]


def test_a_file_that_is_not_an_image_is_skipped_and_a_damaged_image_is_announced(site, tmp_path):
    whole = write_picture(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes(whole[:40])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_bytes(b"no jpeg")
    (tmp_path / "video.jpg").write_bytes(b"\0\0\0\x20ftypisom")
    result, announced, store = site.ingest(tmp_path)
    assert [store.get(m.image_path) for m in announced] == [whole[:40]]
    assert [(m.width, m.height) for m in announced] == [(None, None)]
    assert [(skipped.path, skipped.reason) for skipped in result.skipped] == [
        ("empty.jpg", "not an image: it is empty"),
        ("text.jpg", "not an image: it starts with 6e 6f 20 6a 70 65 67, like no known image format"),
        ("video.jpg", "not an image: it is a video (MP4 or QuickTime)"),
    ]
    accounts = [notice.account for notice in accounts_in(read_published(site.settings)) if notice.account]
    assert sum(account.received for account in accounts) == 4
    assert [sum(account.announced for account in accounts), sum(account.failed for account in accounts)] == [1, 3]


def test_frame_numbers_do_not_change_when_an_unfinished_file_becomes_an_image(site, tmp_path):
    write_picture(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").touch()
    write_picture(tmp_path / "c.jpg", shade=7)
    pace = Pace(NOON, 1)
    _, before, _ = site.ingest(tmp_path, pace=pace)
    write_picture(tmp_path / "b.jpg", shade=9)
    _, after, _ = site.ingest(tmp_path, pace=pace)
    assert [m.frame_number for m in before] == [0, 2]
    assert set(frame_ids(before)) < set(frame_ids(after))


def test_hidden_files_and_folders_are_skipped(site, tmp_path):
    for name in ("a.jpg", "._a.jpg", ".hidden.jpg", ".trash/b.jpg", "__MACOSX/c.jpg", "x/._d.jpg", "x/d.jpg"):
        write_picture(tmp_path / name)
    (tmp_path / "Thumbs.db").touch()
    (tmp_path / ".DS_Store").touch()
    result, announced, _ = site.ingest(tmp_path)
    assert [m.attributes["file"] for m in announced] == ["a.jpg", "x/d.jpg"]
    assert {skipped.reason for skipped in result.skipped} == {"hidden"}
    assert [skipped.path for skipped in result.skipped] == [
        ".DS_Store", "._a.jpg", ".hidden.jpg", ".trash/", "Thumbs.db", "__MACOSX/", "x/._d.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [".camera/a.jpg", ".b.jpg"], ids=["hidden folder", "hidden file"])
def test_a_file_or_hidden_folder_is_read_if_it_is_named(site, tmp_path, name):
    write_picture(tmp_path / name)
    write_picture(tmp_path / "other.jpg")
    assert site.ingest(tmp_path / name.partition("/")[0])[0].announced == 1


@pytest.mark.parametrize("name", ["ä 😀\n'\".png", os.fsdecode(b"\xff\xfe.jpg")])
def test_unusual_file_names_are_kept(site, tmp_path, name):
    data = write_picture(tmp_path / name)
    _, announced, store = site.ingest(tmp_path)
    assert store.get(announced[0].image_path) == data
    announced[0].to_value()


def test_a_missing_folder_or_one_without_images_is_refused(site, tmp_path):
    with pytest.raises(ConfigurationError, match="nowhere cannot be read: No such file"):
        site.ingest(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".a.jpg").touch()
    with pytest.raises(ConfigurationError, match=r"no images .* only 1 other file, such as notes.txt"):
        site.ingest(tmp_path)
    (tmp_path / "broken.jpg").write_text("no image")
    with pytest.raises(ConfigurationError, match=r"no images .* only 2 other files, such as broken.jpg"):
        site.ingest(tmp_path)


@pytest.mark.parametrize("source", ["", " ", "a\nb", "a\0b", "x" * 1025])
def test_a_source_needs_a_valid_name(tmp_path, source):
    with pytest.raises(ConfigurationError, match="is not a valid source name"):
        open_folder(Settings(_env_file=None), tmp_path, source)


@pytest.mark.parametrize("topic", [3], indirect=True)
def test_with_real_servers_the_frames_of_a_source_are_in_one_partition_in_order(kafka, topic, bucket, tmp_path):
    for number in range(40):
        write_picture(tmp_path / f"{number:03d}.jpg", shade=number * 5)
    settings = s3_settings(bucket, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topics=(topic,))
    assert ingest_files(settings, open_folder(settings, tmp_path, "gate")).announced == 40
    filled = [log for log in read_log(settings) if log.log_end]
    assert len(filled) == 1
    messages = frames_in(read_published(settings))
    assert [m.attributes["file"] for m in messages] == [f"{n:03d}.jpg" for n in range(40)]
