"""A replayed dead letter becomes a frame, once: with real Kafka, real S3 and the real command."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from imgpipeline.contracts.keys import RAW_RECORDS
from imgpipeline.errors import DeadLetterCode
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.dead_letters import Wanted, read_raw_record
from imgpipeline.sources.dead_letters import ReplayPlan, ReplayResult, plan_replay, replay
from imgpipeline.stream.connection import open_admin, open_producer
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import Ended, run
from imgpipeline_tests.detect.conftest import LaneUnderTest, jpeg, message
from imgpipeline_tests.faults.child_runs import environment_of
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.ledger.samples import dead_letter, write_chain

PATH = "images/camera/late.jpg"


def planned(lane: LaneUnderTest, *, again: bool = False) -> ReplayPlan:
    return plan_replay(lane.settings, lane.store, Wanted(), again=again)


def replayed(lane: LaneUnderTest, *, again: bool = False) -> ReplayResult:
    return replay(lane.settings, lane.store, planned(lane, again=again))


@pytest.fixture
def command(lane: LaneUnderTest, tmp_path: Path) -> Callable[..., Ended]:
    return lambda *arguments: run("dead-letters", *arguments, env=environment_of(lane.settings), cwd=tmp_path)


@pytest.mark.slow
def test_a_missing_image_is_uploaded_and_its_frame_replayed_by_commands(lane, command, tmp_path):
    lane.announce(2)
    lane.send(message(image_path=PATH, frame_number=7))
    lane.follow()
    name = f"{lane.settings.kafka_topic}/0/2"
    page = command("show", name, "--json").json()
    assert (page["code"], page["state"], page["run_id"]) == ("OBJECT_NOT_FOUND", "open", "test-run")
    assert PATH in command("show", name).stdout

    refused = command("replay")
    assert (refused.status, "--yes" in refused.stderr) == (1, True)
    assert command("replay", "--dry-run", "--json").json()["matching_open"] == 1
    assert command("replay", "--yes", "--code", "EMPTY_OBJECT", "--json").json()["announced"] == 0
    lane.put_image(PATH)
    assert command("replay", "--yes", "--json").json()["announced"] == 1
    waiting = command("replay", "--yes", "--json").json()
    assert (waiting["announced"], waiting["under_way"]) == (0, 1)
    lane.follow()

    assert command("list", "--json").json() == []
    [resolved] = command("list", "--all", "--json").json()
    assert (resolved["state"], resolved["became"]) == ("resolved", f"{lane.settings.kafka_topic}/0/3")
    done = command("replay", "--yes", "--json").json()
    assert (done["announced"], done["already_resolved"]) == (0, 1)
    assert [frame.replay_of for frame in lane.frames()] == [None, None, name]
    held = check(lane.settings)
    with open_lake(lane.store, cache_dir=tmp_path / "cache") as session:
        assert session.query("SELECT count(*), count(DISTINCT frame_id) FROM frames").rows == [(3, 3)]
        assert session.query("SELECT state, became FROM dead_letters").rows == [("resolved", resolved["became"])]
        counted = session.query("SELECT max(distinct_frames) FROM label_counts").rows
    assert counted == [(3,)]
    assert len(held.frames) == 3


@pytest.mark.slow
def test_a_frame_that_is_replayed_although_it_exists_is_counted_once(lane, tmp_path):
    lane.send(message(image_path=PATH, frame_number=7))
    lane.follow()
    lane.put_image(PATH)
    assert [replayed(lane, again=True).announced for _ in range(2)] == [1, 1]
    lane.follow()
    assert len(lane.frames()) == 2
    check(lane.settings)
    with open_lake(lane.store, cache_dir=tmp_path / "cache") as session:
        assert session.query("SELECT count(*) FROM frames").rows == [(1,)]


@pytest.mark.slow
def test_failed_replays_are_resolved_by_the_one_that_succeeds(lane):
    lane.send(message(image_path=PATH))
    for _ in range(2):
        lane.follow()
        assert replayed(lane).announced == 1
    lane.follow()
    plan = planned(lane)
    assert [buried.letter.offset for buried in plan.chosen] == [2], "the last attempt stands for those before"
    lane.put_image(PATH)
    replay(lane.settings, lane.store, plan)
    lane.follow()
    topic = lane.settings.kafka_topic
    assert [letter.replay_of for letter in lane.dead_letters()] == [None, f"{topic}/0/0", f"{topic}/0/1"]
    assert (planned(lane).chosen, planned(lane).resolved) == ((), 3)
    check(lane.settings)


@pytest.mark.slow
def test_key_headers_and_time_of_the_record_are_kept(lane, tmp_path):
    """A frame without its own time keeps the day and the identity that the first record gave it."""
    time = datetime(2026, 2, 3, 4, 5, 6, 789_000, UTC)
    values: list[tuple[bytes, list[tuple[str, bytes]]]] = [
        (json.dumps({"image_path": PATH}).encode(), [("trace", b"\xff\x00")]),
        (jpeg()[:-4000], [("content-type", b"image/jpeg"), ("source", "tür".encode())]),
    ]
    with open_producer(lane.settings) as producer:
        for value, headers in values:
            at = {"timestamp_ms": round(time.timestamp() * 1000)}
            producer.send(lane.settings.kafka_topic, value, key=b"\xfe key", headers=headers, **at)
        producer.flush()
    lane.follow()
    lane.put_image(PATH)

    assert replayed(lane).announced == 2
    lane.follow()

    [frame] = lane.frames()
    assert (frame.timestamp, frame.day.isoformat(), frame.source) == (time, "2026-02-03", "camera")
    cut = lane.dead_letters()[-1]
    raw = read_raw_record(lane.store, lane.chain(), cut)
    assert raw is not None
    assert (cut.timestamp, cut.source, raw.key) == (time, "tür", b"\xfe key")
    assert dict(raw.headers)["content-type"] == b"image/jpeg"
    assert [name for name, _ in raw.headers].count("replay_of") == 1
    check(lane.settings)


@pytest.mark.fault(25)
@pytest.mark.slow
def test_fault_25_a_record_that_was_too_large_to_be_kept_is_read_from_kafka_again(lane, tmp_path):
    small = lane.with_settings(dead_letter_raw_bytes=100)
    value = message(image_path=PATH, note="x" * 200)
    small.send(value)
    small.follow()
    assert list(small.store.list_objects(RAW_RECORDS)) == []
    name = f"{small.settings.kafka_topic}/0/0"
    written = tmp_path / "value"
    shown = run("dead-letters", "show", name, "--raw", written, env=environment_of(small.settings), cwd=tmp_path)
    assert (written.read_bytes(), "xxx" in shown.stdout) == (value, True)

    small.put_image(PATH)
    assert replayed(small).announced == 1
    small.follow()

    assert [frame.attributes for frame in small.frames()] == [{"note": "x" * 200}]
    assert planned(small).chosen == ()
    check(small.settings)


@pytest.mark.slow
def test_records_that_kafka_no_longer_has_are_listed_and_the_rest_is_announced(lane, command):
    lane.settings = lane.settings.model_copy(update={"dead_letter_raw_bytes": 150})
    lane.send(message(image_path=PATH, note="x" * 200), None, message(image_path=PATH))
    lane.follow()
    with open_admin(lane.settings) as admin:
        admin.delete_records({TopicPartition(lane.settings.kafka_topic, 0): 1})
    lane.put_image(PATH)

    ended = command("replay", "--yes", "--json")

    said = ended.json()
    assert (ended.status, said["announced"], said["matching_open"]) == (1, 1, 3)
    reasons = {refusal["record"][-3:]: refusal["reason"] for refusal in said["refused"]}
    assert "Kafka has dropped it" in reasons["0/0"]
    assert "null" in reasons["0/1"]
    lane.follow()
    assert len(lane.frames()) == 1
    assert [buried.letter.offset for buried in planned(lane).chosen] == [0, 1], "nothing is lost"


def test_a_record_above_the_limit_is_refused_before_it_is_announced(lane):
    lane.send(b"x" * 5000)
    small = lane.with_settings(max_message_bytes=4096)
    small.follow()
    [refusal] = replayed(small).refused
    assert "IMGPIPELINE_MAX_MESSAGE_BYTES" in refusal.reason
    assert replayed(lane).announced == 1


@pytest.mark.slow
def test_dead_letters_of_a_recreated_topic_are_announced_in_the_new_one(lane, kafka):
    lane.send(message(image_path=PATH))
    lane.follow()
    with open_admin(lane.settings) as admin:
        admin.delete_topics([lane.settings.kafka_topic])
    kafka.create_topic(lane.settings.kafka_topic, partitions=1)
    lane.send(b"no json")
    lane.follow()
    lane.put_image(PATH)
    assert replayed(lane).announced == 2
    lane.follow()
    [frame] = lane.frames()
    assert frame.replay_of is not None
    assert "@" in frame.replay_of
    states: dict[str, Any] = {b.letter.code.value: b.state.value for b in planned(lane, again=True).chosen}
    assert states == {"INVALID_MESSAGE": "open", "OBJECT_NOT_FOUND": "resolved"}


def test_records_that_crashed_a_process_are_announced_again_only_on_request(lane):
    [log] = read_log(lane.settings)
    lane.send(b"a", b"b")
    crashed = replace(dead_letter(0), code=DeadLetterCode.PROCESS_CRASHED)
    write_chain(lane.store, [crashed, dead_letter(1)], chain=log.chain)
    plan = planned(lane)
    assert ([b.letter.offset for b in plan.chosen], plan.crashed) == ([1], 1)
    asked = plan_replay(lane.settings, lane.store, Wanted(code=DeadLetterCode.PROCESS_CRASHED))
    assert ([b.letter.offset for b in asked.chosen], asked.crashed) == ([0], 0)


@pytest.mark.slow
def test_a_record_that_was_removed_from_the_store_is_read_from_kafka_or_missing(lane):
    lane.send(message(image_path=PATH, frame_number=1), message(image_path=PATH, frame_number=2))
    lane.follow()
    for info in list(lane.store.list_objects(RAW_RECORDS)):
        lane.store.delete(info.key)
    with open_admin(lane.settings) as admin:
        admin.delete_records({TopicPartition(lane.settings.kafka_topic, 0): 1})
    lane.put_image(PATH)

    result = replayed(lane)

    assert result.announced == 1
    assert [refusal.reason for refusal in result.refused] == [
        "the raw record is not stored: it was too large to keep, or was removed, and Kafka has dropped it"
    ]
    lane.follow()
    assert [frame.frame_number for frame in lane.frames()] == [2]
    check(lane.settings)
