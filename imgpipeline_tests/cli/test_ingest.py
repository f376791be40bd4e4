"""`imgpipeline ingest` of files and of stored images."""

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import pytest

from imgpipeline.faultpoints import PLAN_VARIABLE
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import environment, interrupt, run
from imgpipeline_tests.cli.samples import settings_of
from imgpipeline_tests.publish.reading import records_of
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
        ended = run("ingest", "folder", "extracted_frames", *classic, "--again", env=site, cwd=tmp_path)
        assert ended.status == 0, ended.stderr
        result = ended.json()
        assert (result["announced"], result["stored"], result["already_there"]) == (3, stored, already_there)
        assert [skipped["path"] for skipped in result["skipped"]] == ["notes.txt"]
    store = store_of(site)
    found = {info.key: store.get(info.key) for info in store.list_objects("images")}
    assert found == {f"images/{name}": data for name, data in made.items()}
    paths = [frame.image_path for frame in frames_in(read_published(settings_of(site)))]
    assert paths == [f"{bucket.url}/site/images/{name}" for name in names] * 2


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


CLASSIC = ("--key-template", "images/{name}", "--message-format", "classic", "--source", "camera")


def values_in(site: dict[str, str]) -> list[tuple[str | None, dict[str, object]]]:
    """Return the records of the topic as a classic consumer reads them: key and JSON value."""
    records = records_of(settings_of(site), site["IMGPIPELINE_KAFKA_TOPIC"])
    return [(record.key.decode() if record.key else None, json.loads(record.value)) for record in records]


def test_a_classic_consumer_gets_each_image_of_a_folder_once_unless_it_is_forced(site, tmp_path):
    """As in row 0.1: files whose names are in the bucket are skipped, and a message is sent only after an upload."""
    for number in range(3):
        write_picture(tmp_path / "in" / f"frame_{number:06d}.jpg", shade=number)
    announced = []
    for more in ((), (), ("--again",)):
        ended = run("ingest", "folder", "in", *CLASSIC, *more, "--json", env=site, cwd=tmp_path)
        assert ended.status == 0, ended.stderr
        announced.append((ended.json()["announced"], ended.json()["left_out"], ended.json()["already_there"]))
    assert announced == [(3, 0, 0), (0, 3, 3), (3, 0, 3)]
    ended = run("ingest", "folder", "in", *CLASSIC, env=site, cwd=tmp_path)
    assert "0 frames of camera announced" in ended.stderr
    assert "Not announced, because stored before: 3 frames. --again announces them." in ended.stderr
    write_picture(tmp_path / "in" / "frame_000003.jpg", shade=9)
    write_picture(tmp_path / "in" / "frame_000000.jpg", shade=8)
    ended = run("ingest", "folder", "in", *CLASSIC, env=site, cwd=tmp_path)
    assert "Images: 1 new, 2 already stored, 1 changed." in ended.stderr
    assert "Not announced, because stored before: 2 frames. --again announces them." in ended.stderr
    names = [str(value["image_path"]).rpartition("/")[2] for _, value in values_in(site)]
    assert names[:6] == [f"frame_{number:06d}.jpg" for number in range(3)] * 2
    assert [name[:12] for name in names[6:]] == ["frame_000000", "frame_000003"]
    assert names[6] != names[0]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["frame stored:3", "frames announced"])
def test_an_ingest_that_was_killed_announces_the_rest_when_it_is_repeated(step, site, store_of, tmp_path):
    """Also what is stored and not announced, while images from before the killed ingest stay left out."""
    write_picture(tmp_path / "in" / "frame_000000.jpg", shade=1)
    command = [sys.executable, "-m", "imgpipeline.cli", "ingest", "folder", "in", *CLASSIC]
    subprocess.run(command, env=environment(site), cwd=tmp_path, check=True)
    for number in range(1, 6):
        write_picture(tmp_path / "in" / f"frame_{number:06d}.jpg", shade=40 * number)
    await_next_second(store_of(site))
    killed = subprocess.run(
        command, env=environment({**site, PLAN_VARIABLE: f"{step}=kill"}), cwd=tmp_path, check=False
    )
    assert killed.returncode == -signal.SIGKILL

    ended = run("ingest", "folder", "in", *CLASSIC, "--json", env=site, cwd=tmp_path)
    assert (ended.status, ended.json()["left_out"]) == (0, 1), ended.stderr
    announced = Counter(str(value["image_path"]).rpartition("/")[2] for _, value in values_in(site))
    assert set(announced) == {f"frame_{number:06d}.jpg" for number in range(6)}
    assert announced["frame_000000.jpg"] == 1
    again = run("ingest", "folder", "in", *CLASSIC, "--json", env=site, cwd=tmp_path).json()
    assert (again["announced"], again["left_out"]) == (0, 6)
    assert not list(store_of(site).list_objects("unfinished_ingests"))


def await_next_second(store: ObjectStore) -> None:
    """Wait until the clock of the store, which may have whole seconds, has advanced."""
    store.put("clock", b"")
    began = store.head("clock").last_modified

    def has_advanced() -> bool:
        store.put("clock", b"")
        return store.head("clock").last_modified > began

    wait_until(has_advanced, limit_s=10, what="the clock of the store has advanced")


def test_a_watched_folder_leaves_out_what_is_in_the_bucket(site, tmp_path):
    write_picture(tmp_path / "in" / "a.jpg")
    assert run("ingest", "folder", "in", *CLASSIC, env=site, cwd=tmp_path).status == 0
    env = {**site, "XDG_STATE_HOME": str(tmp_path / "state")}

    def put_away() -> None:
        wait_until(lambda: not list((tmp_path / "in").iterdir()), limit_s=60, what="the image is handled and deleted")

    ended = interrupt(
        "ingest", "folder", "in", *CLASSIC, "--watch", "--after", "delete", env=env, cwd=tmp_path, when=put_away
    )
    assert "0 frames of camera announced" in ended.stderr
    assert "Not announced, because stored before: 1 frame." in ended.stderr
    assert len(values_in(site)) == 1


def test_suffixes_and_flat_choose_the_files_of_a_folder(site, store_of, tmp_path):
    for name in ("a.jpg", "b.JPG", "c.png", "below/d.jpg"):
        write_picture(tmp_path / "in" / name)
    chosen = ("--flat", "--suffix", ".jpg", "--suffix", ".png", "--key-template", "images/{name}", "--source", "camera")
    ended = run("ingest", "folder", "in", *chosen, "--json", env=site, cwd=tmp_path)
    assert ended.json()["announced"] == 2, ended.stderr
    assert [info.key for info in store_of(site).list_objects("images")] == ["images/a.jpg", "images/c.png"]
    none = run("ingest", "folder", "in", "--suffix", ".bmp", "--source", "camera", env=site, cwd=tmp_path)
    assert none.status == 0, none.stderr


def test_the_numbers_of_keys_begin_where_they_should(site, store_of, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        write_picture(tmp_path / "in" / name)
    numbered = ("--key-template", "image_database/{number:05d}.jpg", "--first-number", "1", "--source", "camera")
    assert run("ingest", "folder", "in", *numbered, env=site, cwd=tmp_path).status == 0
    keys = [info.key for info in store_of(site).list_objects("image_database")]
    assert keys == ["image_database/00001.jpg", "image_database/00002.jpg"]


@pytest.mark.slow
def test_images_of_a_bucket_are_announced_by_bucket_and_key_once_unless_it_is_forced(site, bucket, tmp_path):
    """As in row 1.1: the key of a record is the key of its image; the time is UTC without an offset."""
    fill(bucket, tmp_path, "captcha/a.png", "captcha/b.jpeg", "captcha/c.jpg")
    env = {**site, "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS": bucket.url, "XDG_STATE_HOME": str(tmp_path / "state")}
    command = ("ingest", "s3", f"{bucket.url}/captcha", "--suffix", ".png", "--suffix", ".jpeg", "--json")
    form = ("--message-format", "bucket")
    counts = []
    for more in (form, (*form, "--source", "other"), (*form, "--again")):
        done = run(*command, *more, env=env, cwd=tmp_path).json()
        counts.append((done["announced"], done["left_out"]))
    assert counts == [(2, 0), (0, 2), (2, 0)]
    records = values_in(env)
    assert [key for key, _ in records] == ["captcha/a.png", "captcha/b.jpeg"] * 2
    for key, value in records:
        assert list(value) == ["image_key", "bucket_name", "timestamp", "uuid"]
        assert (value["image_key"], value["bucket_name"]) == (key, bucket.name)
        assert datetime.strptime(str(value["timestamp"]), "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC) > NOW
        assert UUID(str(value["uuid"]))
    assert records[:2] == records[2:]
    assert {frame.image_path for frame in frames_in(read_published(settings_of(site)))} == {
        f"{bucket.url}/captcha/a.png", f"{bucket.url}/captcha/b.jpeg",
    }  # fmt: skip


def test_a_backfill_announces_every_object_each_time_and_writes_what_failed(site, bucket, tmp_path):
    """As in row 0.4: the failures are a list of path and error, and the status is 1."""
    fill(bucket, tmp_path, "site/images/a.jpg", "site/images/b%2e.jpg")
    command = ("ingest", "s3", f"{bucket.url}/site/images", "--message-format", "backfill")
    for _ in range(2):
        ended = run(*command, "--failures", "failed.json", env=site, cwd=tmp_path)
        assert ended.status == 1
    values = [value for _, value in values_in(site)]
    assert [list(value) for value in values] == [["image_path", "backfill_timestamp"]] * 2
    assert {value["image_path"] for value in values} == {f"{bucket.url}/site/images/a.jpg"}
    assert datetime.fromisoformat(str(values[0]["backfill_timestamp"])).tzinfo is None
    [failure] = json.loads((tmp_path / "failed.json").read_text())
    assert failure["path"] == f"{bucket.url}/site/images/b%2e.jpg"
    assert "escaped or control character" in failure["error"]


def test_a_backfill_reports_its_progress_to_a_log(site, bucket, tmp_path):
    fill(bucket, tmp_path, *(f"site/images/{number:03d}.jpg" for number in range(120)))
    ended = run(
        "ingest", "s3", f"{bucket.url}/site/images", "--message-format", "backfill", env=site, cwd=tmp_path
    )  # fmt: skip
    assert ended.status == 0
    assert re.search(r"^1[0-2]\d images announced\.$", ended.stderr, re.MULTILINE)


def test_images_are_derived_beside_those_of_a_folder_and_of_a_bucket(site, bucket, store_of, tmp_path):
    write_picture(tmp_path / "in" / "a.jpg")
    named = ("--key-template", "images/{name}", "--source", "camera", "--derive", "gray", "--derive", "64x36")
    assert run("ingest", "folder", "in", *named, env=site, cwd=tmp_path).status == 0
    derived = ["images/derived/64x36/a.jpg", "images/derived/gray/a.jpg"]
    assert [info.key for info in store_of(site).list_objects("images")] == ["images/a.jpg", *derived]

    fill(bucket, tmp_path, "captcha/a.jpg", "captcha/broken.jpg")
    bucket.store().put("captcha/broken.jpg", b"\xff\xd8\xff broken")
    env = {**site, "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS": bucket.url}
    for _ in range(2):
        ended = run("ingest", "s3", f"{bucket.url}/captcha", "--derive", "gray", "--json", env=env, cwd=tmp_path)
        assert (ended.status, ended.json()["announced"]) == (0, 2), ended.stderr
    *_, good, bad = frames_in(read_published(settings_of(site)))
    assert (good.image_path, bad.image_path) == (f"{bucket.url}/captcha/a.jpg", f"{bucket.url}/captcha/broken.jpg")
    assert good.attributes["derived"] == {"gray": f"{bucket.url}/captcha/derived/gray/a.jpg"}
    assert bad.attributes["derived"] == {}
    gray = np.frombuffer(bytes(bucket.store().get("captcha/derived/gray/a.jpg").bytes()), np.uint8)
    assert cv2.imdecode(gray, cv2.IMREAD_UNCHANGED).ndim == 2


def test_a_form_that_names_a_bucket_needs_one(folder_site, tmp_path):
    write_picture(tmp_path / "in" / "a.jpg")
    command = ("ingest", "folder", "in", "--source", "camera", "--message-format", "bucket")
    ended = run(*command, env=folder_site, cwd=tmp_path)
    assert (ended.status, "set IMGPIPELINE_STORE_URL to s3://" in ended.stderr) == (2, True)


def test_a_test_video_is_made_and_ingested(site, tmp_path):
    made = run("simulate", "video", "test.mp4", "--duration", "2", "--fps", "5", env=site, cwd=tmp_path)
    assert (made.status, made.stderr) == (0, "test.mp4: 10 frames.\n")
    ended = run("ingest", "video", "test.mp4", "--start", "2026-01-09T12:00:00Z", "--json", env=site, cwd=tmp_path)
    [video] = ended.json()["videos"]
    assert (video["source"], video["announced"], video["failed"]) == ("test", 10, 0)
