"""`ingest s3` announces the images of a bucket where they are."""

from collections.abc import Callable
from pathlib import Path

from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import settings_of
from imgpipeline_tests.servers.s3_server import S3Bucket
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published
from imgpipeline_tests.sources.test_folder import write_picture

OpenStore = Callable[[dict[str, str]], ObjectStore]


def fill(bucket: S3Bucket, tmp_path: Path, *keys: str) -> None:
    store = bucket.store()
    for number, key in enumerate(keys):
        store.put(key, write_picture(tmp_path / "made" / f"{number}.png", shade=number))


def test_existing_objects_are_announced_where_they_are(site: dict[str, str], bucket: S3Bucket, tmp_path: Path):
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


def test_an_object_that_cannot_be_announced_is_listed_and_the_status_is_1(
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


def test_a_bucket_is_a_source_and_suffixes_choose_its_objects(site: dict[str, str], bucket: S3Bucket, tmp_path: Path):
    fill(bucket, tmp_path, "a.png", "b/c.jpeg", "d.PNG", "e.jpg")
    env = {**site, "IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS": bucket.url}
    chosen = ["--suffix", ".png", "--suffix", ".jpeg", "--json"]
    ended = run("ingest", "s3", bucket.url, *chosen, env=env, cwd=tmp_path)
    assert ended.json()["source"] == bucket.url.removeprefix("s3://")
    paths = {frame.image_path for frame in frames_in(read_published(settings_of(site)))}
    assert paths == {f"{bucket.url}/a.png", f"{bucket.url}/b/c.jpeg"}


def test_a_bucket_that_the_pipeline_may_not_read_is_refused(site: dict[str, str], tmp_path: Path):
    ended = run("ingest", "s3", "s3://elsewhere/images", env=site, cwd=tmp_path)
    assert ended.status == 1
    assert "Next: add it to IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS=s3://elsewhere/images" in ended.stderr
