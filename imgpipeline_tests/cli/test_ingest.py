"""`imgpipeline ingest` of files and of stored images."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from imgpipeline.settings import load_settings
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import interrupt, run
from imgpipeline_tests.cli.samples import settings_of
from imgpipeline_tests.servers.s3_server import S3Bucket
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published
from imgpipeline_tests.sources.test_folder import write_picture
from imgpipeline_tests.sources.videos import write_video

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
MANY = 10_000
"""Files of a folder that is interrupted: more than are announced before the interrupt, even if that comes late."""


def test_a_folder_becomes_flat_objects_and_classic_messages_and_a_second_run_stores_nothing(
    site, bucket, store_of, tmp_path
):
    names = [f"frame_{number:06d}.jpg" for number in range(3)]
    made = {name: write_picture(tmp_path / "extracted_frames" / name, shade=n) for n, name in enumerate(names)}
    (tmp_path / "extracted_frames" / "notes.txt").touch()
    classic = ["--key-template", "images/{name}", "--message-format", "classic", "--source", "camera", "--json"]
    for stored, already_there in ((3, 0), (0, 3)):
        ended = run("ingest", "folder", "extracted_frames", *classic, env=site, cwd=tmp_path)
        assert ended.status == 0, ended.stderr
        result = ended.json()
        assert (result["announced"], result["stored"], result["already_there"]) == (3, stored, already_there)
        assert [skipped["path"] for skipped in result["skipped"]] == ["notes.txt"]
    store = store_of(site)
    found = {info.key: store.get(info.key) for info in store.list_objects("images")}
    assert found == {f"images/{name}": data for name, data in made.items()}
    paths = [frame.image_path for frame in frames_in(read_published(settings_of(site)))]
    assert paths == [f"{bucket.url}/site/images/{name}" for name in names] * 2


def test_a_second_run_says_that_classic_consumers_process_its_frames_again(site, tmp_path):
    write_picture(tmp_path / "in" / "a.jpg")
    command = ["ingest", "folder", "in", "--source", "camera", "--message-format"]
    first, native, classic = (run(*command, form, env=site, cwd=tmp_path) for form in ("classic", "native", "classic"))
    assert [ended.status for ended in (first, native, classic)] == [0, 0, 0]
    assert "again" not in first.stderr
    assert "process 1 frame again" not in native.stderr
    assert "consumers process 1 frame again" in classic.stderr


def test_an_empty_folder_is_nothing_to_do_and_a_missing_one_an_error(site, tmp_path):
    (tmp_path / "empty").mkdir()
    empty, missing = (
        run("ingest", "folder", name, "--source", "camera", env=site, cwd=tmp_path) for name in ("empty", "missing")
    )
    assert (empty.status, "nothing to do" in empty.stderr) == (0, True), empty.stderr
    assert (missing.status, "missing cannot be read" in missing.stderr) == (1, True), missing.stderr


def test_videos_of_one_source_are_ingested_by_count_and_follow_each_other(site, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name)
    given = ["--source", "yard", "--count", "2", "--start", "2026-01-09T12:00:00Z", "--json"]
    ended = run("ingest", "video", tmp_path / "a.mp4", tmp_path / "b.mp4", *given, env=site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    first, second = ended.json()["videos"]
    assert [(one["source"], one["announced"], one["failed"]) for one in (first, second)] == [("yard", 2, 0)] * 2
    times = [f"{frame.timestamp:%S.%f}" for frame in frames_in(read_published(settings_of(site)))]
    assert times == ["00.000000", "01.000000", "02.000000", "03.000000"]


def test_images_are_stored_in_the_size_that_is_asked_for(site, store_of, tmp_path):
    for number in range(3):
        write_picture(tmp_path / "seq" / f"{number}.jpg")
    ended = run("ingest", "sequence", tmp_path / "seq", "--resize", "640x360", "--json", env=site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert [(s["source"], s["announced"]) for s in ended.json()["sequences"]] == [("seq", 3)]
    frames = frames_in(read_published(settings_of(site)))
    assert {(frame.width, frame.height) for frame in frames} == {(640, 360)}
    stored = store_of(site).get(str(frames[0].image_path))
    assert cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR).shape == (360, 640, 3)


def test_numbered_pictures_keep_their_running_number_as_key(site, store_of, tmp_path):
    made = ["--pattern", "rotate", "--image", "one.jpg", "--name", "{n:05d}.jpg", "--fps", "0", "--cameras", "1"]
    write_picture(tmp_path / "one.jpg")
    assert run("simulate", "folder", *made, env=site, cwd=tmp_path).status == 0
    numbered = ["--key-template", "image_database/{number:05d}.jpg"]
    ended = run("ingest", "sequence", "simulated/cam1", *numbered, env=site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    keys = [info.key for info in store_of(site).list_objects("image_database")]
    assert keys == [f"image_database/{number:05d}.jpg" for number in range(1, 11)]


def test_ctrl_c_ends_a_watch_after_what_was_found_is_announced(site, tmp_path):
    write_picture(tmp_path / "in" / "a.jpg")
    env = {**site, "XDG_STATE_HOME": str(tmp_path / "state")}
    command = ["ingest", "folder", tmp_path / "in", "--source", "gate", "--watch", "--after", "delete"]

    def put_away() -> None:
        wait_until(lambda: not list((tmp_path / "in").iterdir()), limit_s=60, what="the image is announced and deleted")

    ended = interrupt(*command, env=env, cwd=tmp_path, when=put_away)
    assert ended.status == 130, ended.stderr
    assert "1 frame of gate announced" in ended.stderr
    assert [frame.source for frame in frames_in(read_published(settings_of(site)))] == ["gate"]


def test_a_video_is_refused_before_anything_is_announced(site, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"\0\0\0\x20ftypisom" + bytes(1000))
    ended = run("ingest", "folder", clip, "--source", "gate", env=site, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (1, "")
    assert "clip.mp4 is not an image: it is a video (MP4 or QuickTime)." in ended.stderr
    assert f"Next: `imgpipeline ingest video {clip}`" in ended.stderr
    assert run("status", "--json", env=site, cwd=tmp_path).json()["partitions"][0]["log_end"] == 0


def test_skipped_files_are_counted_and_some_are_named(site, tmp_path):
    write_picture(tmp_path / "in" / "a.jpg")
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", *(f"{number}.txt" for number in range(7))):
        (tmp_path / "in" / name).write_text("no image")
    ended = run("ingest", "folder", tmp_path / "in", "--source", "gate", env=site, cwd=tmp_path)
    assert ended.status == 0
    assert ended.stderr.startswith("1 frame of gate announced")
    assert "Skipped: 7 other files." in ended.stderr
    assert "0.txt: not one of .jpg" in ended.stderr
    assert "And 2 more; --json lists all." in ended.stderr
    assert "Skipped as hidden: 3 files or folders." in ended.stderr


def test_ctrl_c_says_how_many_frames_were_announced_and_that_a_second_run_is_safe(site, tmp_path, store_of):
    first = tmp_path / "in" / "00000.jpg"
    write_picture(first)
    for number in range(1, MANY):
        first.with_name(f"{number:05d}.jpg").hardlink_to(first)
    store_of(site)
    settings = load_settings()

    def some_are_announced() -> None:
        wait_until(lambda: read_log(settings)[0].log_end > 50, limit_s=60, what="50 frames are in Kafka")

    command = ["ingest", "folder", tmp_path / "in", "--source", "gate"]
    ended = interrupt(*command, env=site, cwd=tmp_path, when=some_are_announced)
    in_kafka = len(frames_in(read_published(settings)))
    assert ended.status == 130
    assert f"Interrupted after {in_kafka:,} of {MANY:,} frames" in ended.stderr
    assert "safe to run the same command again" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert 50 < in_kafka < MANY


def fill(bucket: S3Bucket, tmp_path: Path, *keys: str) -> None:
    store = bucket.store()
    for number, key in enumerate(keys):
        store.put(key, write_picture(tmp_path / "made" / f"{number}.png", shade=number))


def test_existing_objects_are_announced_where_they_are(site, bucket, tmp_path):
    names = [f"site/images/frame_{number:06d}.jpg" for number in range(25)]
    fill(bucket, tmp_path, *names)
    bucket.store().put("site/images/empty.jpg", b"")
    bucket.store().put("site/images/notes.txt", b"no image")
    for _ in range(2):
        ended = run("ingest", "s3", f"{bucket.url}/site/images/", "--json", env=site, cwd=tmp_path)
        assert ended.status == 0, ended.stderr
        result = ended.json()
        assert (result["source"], result["announced"], result["skipped"], result["failures"]) == ("images", 25, 2, [])

    published = read_published(settings_of(site))
    frames = frames_in(published)
    assert [frame.image_path for frame in frames] == [f"{bucket.url}/{name}" for name in names] * 2
    assert len({(frame.timestamp, frame.image_path) for frame in frames}) == 25
    assert all(frame.size_bytes for frame in frames)
    assert {notice.account.announced for notice in accounts_in(published) if notice.account} == {25}


def test_an_object_that_cannot_be_announced_is_listed_and_the_status_is_1(site, bucket, tmp_path):
    fill(bucket, tmp_path, "site/in/a.png", "site/in/b%2e.png")
    ended = run("ingest", "s3", f"{bucket.url}/site/in", "--json", env=site, cwd=tmp_path)
    assert ended.status == 1
    result = ended.json()
    assert result["announced"] == 1
    [failure] = result["failures"]
    assert failure["path"] == f"{bucket.url}/site/in/b%2e.png"
    assert "escaped or control character" in failure["error"]


def test_a_bucket_is_a_source_and_suffixes_choose_its_objects(site, bucket, tmp_path):
    fill(bucket, tmp_path, "a.png", "b/c.jpeg", "d.PNG", "e.jpg")
    env = {**site, "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS": bucket.url}
    chosen = ["--suffix", ".png", "--suffix", ".jpeg", "--json"]
    ended = run("ingest", "s3", bucket.url, *chosen, env=env, cwd=tmp_path)
    assert ended.json()["source"] == bucket.url.removeprefix("s3://")
    paths = {frame.image_path for frame in frames_in(read_published(settings_of(site)))}
    assert paths == {f"{bucket.url}/a.png", f"{bucket.url}/b/c.jpeg"}
    refused = run("ingest", "s3", bucket.url, env=site, cwd=tmp_path)
    assert refused.status == 1
    assert f"Next: add it to IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS={bucket.url}" in refused.stderr
