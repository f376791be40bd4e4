"""`imgpipeline ingest`: buckets, videos and sequences, on real servers."""

from pathlib import Path

from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import interrupt, run
from imgpipeline_tests.servers.s3_server import S3Bucket
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published
from imgpipeline_tests.sources.test_folder import write_picture
from imgpipeline_tests.sources.videos import write_video


def settings_of(site: dict[str, str]) -> Settings:
    return Settings(
        _env_file=None,
        kafka_bootstrap_servers=site["IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS"],
        kafka_topic=site["IMGPIPELINE_KAFKA_TOPIC"],
    )


def fill(bucket: S3Bucket, tmp_path: Path, *keys: str) -> None:
    store = bucket.store()
    for number, key in enumerate(keys):
        store.put(key, write_picture(tmp_path / "made" / f"{number}.png", shade=number))


def test_row_0_4_existing_objects_are_announced_where_they_are(site: dict[str, str], bucket: S3Bucket, tmp_path: Path):
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


def test_row_0_4_an_object_that_cannot_be_announced_is_listed_and_the_status_is_1(
    site: dict[str, str], bucket: S3Bucket, tmp_path: Path
):
    fill(bucket, tmp_path, "site/in/a.png", "site/in/b%2e.png")
    ended = run("ingest", "s3", f"{bucket.url}/site/in", "--json", env=site, cwd=tmp_path)
    assert ended.status == 1
    result = ended.json()
    assert result["announced"] == 1
    [failure] = result["failures"]
    assert failure["path"] == f"{bucket.url}/site/in/b%2e.png"
    assert "escaped or control character" in failure["error"]


def test_row_1_1_a_bucket_is_a_source_and_suffixes_choose_its_objects(
    site: dict[str, str], bucket: S3Bucket, tmp_path: Path
):
    fill(bucket, tmp_path, "a.png", "b/c.jpeg", "d.PNG", "e.jpg")
    env = {**site, "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS": bucket.url}
    chosen = ["--suffix", ".png", "--suffix", ".jpeg", "--json"]
    ended = run("ingest", "s3", bucket.url, *chosen, env=env, cwd=tmp_path)
    assert ended.json()["source"] == bucket.url.removeprefix("s3://")
    paths = {frame.image_path for frame in frames_in(read_published(settings_of(site)))}
    assert paths == {f"{bucket.url}/a.png", f"{bucket.url}/b/c.jpeg"}


def test_row_1_1_a_bucket_that_the_pipeline_may_not_read_is_refused(site: dict[str, str], tmp_path: Path):
    ended = run("ingest", "s3", "s3://elsewhere/images", env=site, cwd=tmp_path)
    assert ended.status == 1
    assert "Next: add it to IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS=s3://elsewhere/images" in ended.stderr


def test_row_0_6_a_video_is_ingested_by_count(site: dict[str, str], tmp_path: Path):
    write_video(tmp_path / "clip.mp4")
    given = ["--count", "5", "--start", "2026-01-09T12:00:00Z", "--json"]
    ended = run("ingest", "video", tmp_path / "clip.mp4", *given, env=site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    [result] = ended.json()["videos"]
    assert (result["source"], result["announced"], result["failed"]) == ("clip", 5, 0)
    assert result["last_time"] == "2026-01-09T12:00:01.600000Z"


def test_a_sequence_is_ingested_and_resized(site: dict[str, str], tmp_path: Path):
    for number in range(3):
        write_picture(tmp_path / "seq" / f"{number}.jpg")
    ended = run("ingest", "sequence", tmp_path / "seq", "--resize", "20x12", "--json", env=site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    assert [(s["source"], s["announced"]) for s in ended.json()["sequences"]] == [("seq", 3)]
    assert {(f.width, f.height) for f in frames_in(read_published(settings_of(site)))} == {(20, 12)}


def test_several_videos_of_one_source_follow_each_other(site: dict[str, str], tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name)
    given = ["--source", "yard", "--start", "2026-01-09T12:00:00Z", "--every", "10", "--json"]
    ended = run("ingest", "video", tmp_path / "a.mp4", tmp_path / "b.mp4", *given, env=site, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    frames = frames_in(read_published(settings_of(site)))
    assert [f"{frame.timestamp:%S.%f}" for frame in frames] == ["00.000000", "01.000000", "02.000000", "03.000000"]


def test_choices_that_contradict_each_other_are_refused(tmp_path: Path):
    ended = run("ingest", "video", "clip.mp4", "--every", "2", "--fps", "3", cwd=tmp_path)
    assert ended.status == 2
    assert "More than one of --every, --fps and --count" in ended.stderr


def test_row_0_2_ctrl_c_ends_a_watch_after_what_was_found_is_announced(site: dict[str, str], tmp_path: Path):
    write_picture(tmp_path / "in" / "a.jpg")
    env = {**site, "XDG_STATE_HOME": str(tmp_path / "state")}
    command = ["ingest", "folder", tmp_path / "in", "--source", "gate", "--watch", "--after", "delete"]

    def put_away() -> None:
        wait_until(lambda: not list((tmp_path / "in").iterdir()), limit_s=60, what="the image is announced and deleted")

    ended = interrupt(*command, env=env, cwd=tmp_path, when=put_away)
    assert ended.status == 130, ended.stderr
    assert "1 frame of gate announced" in ended.stderr
    assert [frame.source for frame in frames_in(read_published(settings_of(site)))] == ["gate"]
