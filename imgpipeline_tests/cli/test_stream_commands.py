"""From a folder of pictures to what waits: topics, ingest, status, on real servers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from imgpipeline.contracts.keys import ChainId
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import interrupt, run
from imgpipeline_tests.ledger.samples import dead_letter, frames, write_chain
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import frames_in, read_published
from imgpipeline_tests.sources.test_folder import write_picture

NOTICES = 3
"""Of a short session: started, account, ended."""
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
MANY = 10_000
"""Files of a folder that is interrupted: more than are announced before the interrupt, even if that comes late."""


def test_topics_ingest_and_status_of_a_new_site(site: dict[str, str], tmp_path: Path):
    env = {**site, "IMGPIPELINE_KAFKA_TOPIC": f"new-{uuid4().hex[:8]}"}
    made = run("topics", "create", "--partitions", "2", "--json", env=env, cwd=tmp_path)
    assert made.json() == {"topic": env["IMGPIPELINE_KAFKA_TOPIC"], "created": True, "partitions": 2}
    again = run("topics", "create", "--partitions", "5", env=env, cwd=tmp_path)
    assert again.status == 0
    assert "already exists" in again.stderr
    for number in range(5):
        write_picture(tmp_path / "pictures" / f"{number}.jpg", shade=number * 40, time=NOW)
    (tmp_path / "pictures" / "notes.txt").touch()
    ingested = run("ingest", "folder", tmp_path / "pictures", "--source", "gate", "--json", env=env, cwd=tmp_path)
    result = ingested.json()
    assert (result["announced"], result["stored"], result["already_there"]) == (5, 5, 0)
    assert [skipped["path"] for skipped in result["skipped"]] == ["notes.txt"]
    repeated = run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=env, cwd=tmp_path)
    assert "0 new, 5 already stored" in repeated.stderr
    assert "notes.txt" in repeated.stderr
    status = run("status", "--json", env=env, cwd=tmp_path).json()
    assert sum(partition["lag"] for partition in status["partitions"]) == 2 * (5 + NOTICES)
    assert {partition["ledger_end"] for partition in status["partitions"]} == {0}
    assert {partition["last_commit"] for partition in status["partitions"]} == {None}


def test_ingest_with_a_pace_gives_times_by_order(site: dict[str, str], tmp_path: Path):
    for number in range(3):
        write_picture(tmp_path / "pictures" / f"{number}.jpg")
    pace = ["--start", "2026-01-09T12:00:00+01:00", "--interval-s", "0.5"]
    ended = run("ingest", "folder", tmp_path / "pictures", "--source", "x", *pace, "--json", env=site, cwd=tmp_path)
    assert ended.json()["first_time"] == "2026-01-09T11:00:00.000000Z"
    assert ended.json()["last_time"] == "2026-01-09T11:00:01.000000Z"


@pytest.mark.parametrize(
    ("pace", "named"),
    [
        (["--start", "noon"], "--start 'noon'"),
        (["--start", "2026-01-09", "--interval-s", "0"], "--interval-s is 0.0"),
        (["--start", "2026-01-09", "--interval-s", "nan"], "--interval-s nan"),
    ],
)
def test_a_pace_that_makes_no_sense_is_refused(pace: list[str], named: str, tmp_path: Path):
    ended = run("ingest", "folder", tmp_path, "--source", "x", *pace, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (2, "")
    assert named in ended.stderr


def test_a_video_is_refused_before_anything_is_announced(site: dict[str, str], tmp_path: Path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"\0\0\0\x20ftypisom" + bytes(1000))
    ended = run("ingest", "folder", clip, "--source", "gate", env=site, cwd=tmp_path)
    assert (ended.status, ended.stdout) == (1, "")
    assert "clip.mp4 is not an image: it is a video (MP4 or QuickTime)." in ended.stderr
    assert f"Next: `imgpipeline ingest video {clip}`" in ended.stderr
    assert run("status", "--json", env=site, cwd=tmp_path).json()["partitions"][0]["log_end"] == 0


def test_files_that_were_left_out_are_counted_and_some_are_named(site: dict[str, str], tmp_path: Path):
    write_picture(tmp_path / "in" / "a.jpg")
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", *(f"{number}.txt" for number in range(7))):
        (tmp_path / "in" / name).write_text("no image")
    ended = run("ingest", "folder", tmp_path / "in", "--source", "gate", env=site, cwd=tmp_path)
    assert ended.status == 0
    assert ended.stderr.startswith("1 frame of gate announced")
    assert "Left out: 7 other files." in ended.stderr
    assert "0.txt: not one of .jpg" in ended.stderr
    assert "and 2 more" in ended.stderr
    assert "Left out as hidden: 3 files or folders." in ended.stderr


def test_ctrl_c_says_how_many_frames_were_announced_and_that_a_second_run_is_safe(
    site: dict[str, str], tmp_path: Path, store_of: Callable[[dict[str, str]], ObjectStore]
):
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


def test_a_folder_that_is_not_there_is_named(site: dict[str, str], tmp_path: Path):
    ended = run("ingest", "folder", tmp_path / "nowhere", "--source", "x", env=site, cwd=tmp_path)
    assert ended.status == 1
    assert "nowhere" in ended.stderr


def test_row_0_18_status_shows_lag_last_commit_and_dead_letters(
    site: dict[str, str], tmp_path: Path, store_of: Callable[[dict[str, str]], ObjectStore]
):
    for number in range(6):
        write_picture(tmp_path / "pictures" / f"{number}.jpg")
    run("ingest", "folder", tmp_path / "pictures", "--source", "gate", env=site, cwd=tmp_path)
    store = store_of(site)
    chain = read_log(load_settings())[0].chain
    write_chain(store, [dead_letter(0), *frames(1, 3)], [dead_letter(3)], chain=chain)
    gone = ChainId(chain.topic, "an-earlier-topic", 0)
    write_chain(store, frames(0, 7), chain=gone)
    current, earlier = run("status", "--json", env=site, cwd=tmp_path).json()["partitions"]
    assert (current["log_end"], current["ledger_end"], current["dead_letters"]) == (6 + NOTICES, 4, 2)
    assert current["lag"] == 2 + NOTICES
    assert current["last_commit"] == "2026-01-09T12:00:00.000000Z"
    assert (earlier["topic_id"], earlier["current"], earlier["lag"]) == ("an-earlier-topic", False, None)
    limited = run("status", "--segments", "1", env=site, cwd=tmp_path)
    assert "last 1 segment of a partition" in limited.stderr
    assert "an-earlier-topic, gone" in limited.stdout


def test_a_topic_that_is_not_there_is_named_by_status(site: dict[str, str], tmp_path: Path):
    ended = run("status", env={**site, "IMGPIPELINE_KAFKA_TOPIC": "absent"}, cwd=tmp_path)
    assert ended.status == 1
    assert "imgpipeline topics create" in ended.stderr
