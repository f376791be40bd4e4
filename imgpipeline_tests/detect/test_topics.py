"""A lane over several topics has one ledger and the same detectors, and counts a frame in several topics once."""

import json
from collections.abc import Callable

import pytest
from kafka import KafkaProducer

from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.lake.quality.audit import audit
from imgpipeline.settings import load_settings
from imgpipeline.sources.folder import open_folder
from imgpipeline.sources.ingest import ingest_files
from imgpipeline.stream.lanes import Lane
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg
from imgpipeline_tests.faults.child_runs import environment_of
from imgpipeline_tests.stream.group import group_offsets


@pytest.fixture
def site(lane: LaneUnderTest, make_topic: Callable[..., str]) -> LaneUnderTest:
    """A lane over two topics of one and of two partitions."""
    topics = (make_topic(), make_topic(partitions=2))
    return lane.with_settings(kafka_topics=topics, image_path_template="{video_id}_{frame_id}.jpg")


def announce(
    site: LaneUnderTest, producer: KafkaProducer, count: int, *, topics: tuple[str, ...] | None = None
) -> None:
    """Announce frames of a video in each topic, as a data generator does: without a key."""
    for number in range(count):
        name = f"frame_{number:05d}"
        site.put_image(f"clip_{name}.jpg")
        value = {"frame_id": name, "timestamp": f"2026-03-01T12:00:{number:02d}+00:00", "video_id": "clip"}
        for topic in topics or site.settings.kafka_topics:
            producer.send(topic, json.dumps(value).encode())
    producer.flush()


@pytest.mark.slow
def test_a_frame_in_two_topics_is_one_frame_which_the_tables_and_the_audit_count_once(site, producer, tmp_path):
    announce(site, producer, 8)
    reports = [site.follow(Lane(number, 2)) for number in range(2)]
    assert [(report.dead_letters, report.lag) for report in reports] == [(0, 0)] * 2
    assert sum(report.frames for report in reports) == 16

    logs = read_log(site.settings)
    assert [log.topic for log in logs] == [site.settings.kafka_topics[0], *[site.settings.kafka_topics[1]] * 2]
    told = group_offsets(site.settings, [log.at for log in logs])
    assert {at: told.get(at, 0) for at in told} == {log.at: log.log_end for log in logs if log.log_end}

    frames = site.frames()
    assert {frame.topic for frame in frames} == set(site.settings.kafka_topics)
    assert {frame.source for frame in frames} == {"clip"}
    frame_ids = {frame.frame_id for frame in frames}
    assert len(frame_ids) == 8
    for frame_id in frame_ids:
        one, other = (frame for frame in frames if frame.frame_id == frame_id)
        assert one.detections == other.detections

    env = environment_of(site.settings)
    found = run("query", "SELECT count(*) AS n FROM frames", "--json", env=env, cwd=tmp_path).json()
    assert found == [{"n": 8}]
    audited = audit(site.store, lambda: read_log(site.settings), full=True, now=utc_now())
    assert audited.ok
    assert sum(partition.found.frames for partition in audited.partitions) == 16


def test_a_topic_that_is_added_later_is_read_from_its_beginning(lane, producer, make_topic):
    lane.announce(2)
    lane.follow()
    both = lane.with_settings(kafka_topics=(lane.settings.kafka_topic, make_topic()))
    for message in lane.announce(3):
        producer.send(both.settings.kafka_topics[1], message.to_value())
    producer.flush()
    assert both.follow().frames == 6
    assert len({frame.frame_id for frame in both.frames()}) == 3


def test_our_own_sources_announce_on_the_first_topic(site, tmp_path):
    (tmp_path / "0001.jpg").write_bytes(jpeg())
    ingest_files(site.settings, open_folder(site.settings, tmp_path, "gate"))
    site.follow()
    assert [frame.topic for frame in site.frames()] == [site.settings.kafka_topic]


@pytest.mark.slow
def test_status_doctor_and_replay_know_all_topics(site, producer, tmp_path):
    announce(site, producer, 1)
    first, second = site.settings.kafka_topics
    producer.send(second, b'{"video_id": "clip", "frame_id": "late", "timestamp": "2026-03-01T12:01:00Z"}', partition=1)
    producer.flush()
    site.follow()
    env = environment_of(site.settings)
    status = run("status", "--json", env=env, cwd=tmp_path).json()
    assert [(row["topic"], row["partition"], row["lag"]) for row in status["partitions"]] == [
        (first, 0, 0),
        (second, 0, 0),
        (second, 1, 0),
    ]
    doctor = run("doctor", env=env, cwd=tmp_path)
    assert f"{first}: 1 partition, 1 offset; {second}: 2 partitions, 2 offsets" in doctor.stdout
    site.put_image("clip_late.jpg")
    replayed = run("dead-letters", "replay", "--yes", "--json", env=env, cwd=tmp_path).json()
    assert (replayed["announced"], replayed["topic"]) == (1, first)
    site.follow()
    [late] = [frame for frame in site.frames() if frame.source_image_path == "clip_late.jpg"]
    assert (late.topic, late.replay_of.split("/")[0] if late.replay_of else None) == (first, second)
    assert run("dead-letters", "list", "--json", env=env, cwd=tmp_path).json() == []


def test_topics_create_makes_all_of_them(lane, tmp_path):
    names = [f"{lane.settings.kafka_topic}-{kind}" for kind in ("cars", "people")]
    env = environment_of(lane.settings) | {"IMGPIPELINE_KAFKA_TOPIC": ", ".join(names)}
    made = run("topics", "create", "--partitions", "2", "--json", env=env, cwd=tmp_path).json()
    assert made == {"topics": [{"topic": name, "created": True, "partitions": 2} for name in names]}


def test_a_list_of_topics_is_separated_by_commas():
    assert load_settings(kafka_topics="a, b").kafka_topics == ("a", "b")


@pytest.mark.parametrize("value", [",", "a,a", "a,b c", "a,import.b"], ids=str)
def test_a_list_of_topics_names_each_once(value, monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_KAFKA_TOPIC", value)
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_KAFKA_TOPIC"):
        load_settings()
