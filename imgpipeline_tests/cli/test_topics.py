"""`imgpipeline topics peek` shows records without leaving a trace."""

import json
import subprocess
import sys

import pytest
from kafka import KafkaProducer

from imgpipeline_tests.cli.command import environment, run
from imgpipeline_tests.detect.conftest import jpeg, producer

__all__ = ["producer"]

NOON_MS = 1_767_960_000_000


def send(producer: KafkaProducer, topic: str, *values: bytes | None, first: int = 0) -> None:
    for number, value in enumerate(values, first):
        producer.send(topic, value, key=b"gate", timestamp_ms=NOON_MS + number * 1000)
    producer.flush()


def test_it_shows_the_last_records_with_partition_offset_time_key_and_value(site, topic, producer, tmp_path):
    picture = jpeg()
    send(producer, topic, b"{}", b'{"image_path":\n "a/0007.jpg"}', picture, b"\xff\xfe\x00", None)
    ended = run("topics", "peek", "--limit", "4", env=site, cwd=tmp_path)
    assert ended.status == 0
    assert ended.stdout.splitlines() == [
        f'{topic}  0  1  2026-01-09T12:00:01.000Z  gate  {{"image_path": "a/0007.jpg"}}',
        f"{topic}  0  2  2026-01-09T12:00:02.000Z  gate  JPEG, {len(picture):,} bytes",
        f"{topic}  0  3  2026-01-09T12:00:03.000Z  gate  binary, 3 bytes",
        f"{topic}  0  4  2026-01-09T12:00:04.000Z  gate  null",
    ]
    assert "4 records shown; Kafka has 5 offsets." in ended.stderr


def test_it_starts_at_the_given_place_and_leaves_no_group_behind(site, topic, producer, kafka, tmp_path):
    admin = kafka.admin()
    groups = admin.list_groups()
    send(producer, topic, *[b"%d" % n for n in range(6)])
    places = {"beginning": [0, 1], "end": [4, 5], "3": [3, 4], "2026-01-09T12:00:02Z": [2, 3], "2030-01-01": []}
    for start, offsets in places.items():
        shown = run("topics", "peek", "--limit", "2", "--from", start, "--json", env=site, cwd=tmp_path).json()
        assert [(record["offset"], record["value"]) for record in shown] == [(n, str(n)) for n in offsets], start
    assert admin.list_groups() == groups
    admin.close()


@pytest.mark.slow
def test_it_follows_until_no_record_arrives(site, topic, producer, tmp_path):
    send(producer, topic, b"0")
    command = [sys.executable, "-m", "imgpipeline.cli", "topics", "peek", "--follow", "--idle-s", "4", "--json"]
    with subprocess.Popen(
        command, env=environment(site), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert json.loads(process.stdout.readline())["value"] == "0"
        send(producer, topic, b"1", b"2", first=1)
        assert [json.loads(process.stdout.readline())["value"] for _ in range(2)] == ["1", "2"]
        assert process.wait(60) == 0
        assert "No record for 4 s." in process.stderr.read()


@pytest.mark.slow
def test_it_follows_from_the_records_that_it_showed_without_skipping_any(site, topic, producer, tmp_path):
    send(producer, topic, *[b"%d" % n for n in range(30)])
    places = {"beginning": 0, "7": 7, "2026-01-09T12:00:20Z": 20, "end": 28}
    for start, first in places.items():
        following = ["--from", start, "--follow", "--limit", "2", "--idle-s", "1", "--json"]
        ended = run("topics", "peek", *following, env=site, cwd=tmp_path)
        assert [json.loads(line)["offset"] for line in ended.stdout.splitlines()] == list(range(first, 30)), start


def test_records_of_several_topics_come_in_the_order_of_their_times(site, topic, producer, make_topic, tmp_path):
    other = make_topic()
    send(producer, topic, b"0")
    send(producer, other, b"1", first=1)
    send(producer, topic, b"2", first=2)
    env = {**site, "IMGPIPELINE_KAFKA_TOPIC": f"{topic},{other}"}
    shown = run("topics", "peek", "--json", env=env, cwd=tmp_path).json()
    assert [(record["topic"], record["value"]) for record in shown] == [(topic, "0"), (other, "1"), (topic, "2")]
    only = run("topics", "peek", "--topic", other, "--json", env=env, cwd=tmp_path).json()
    assert [record["value"] for record in only] == ["1"]
