"""The demo's broker works with kafka-python, identifies each start, and never outlives its parent process."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.records import Partition
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.protocol import CapturedFrame, SourceKind
from imgpipeline.sources.session import SourceSession
from imgpipeline.stream.embedded import broker_process, embedded_broker, start_id
from imgpipeline.stream.fetch import read_record
from imgpipeline.stream.log import read_log
from imgpipeline.stream.send import create_topic
from imgpipeline_tests.cli.samples import settings_of
from imgpipeline_tests.servers.processes import is_gone
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import frames_in, read_published

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def topics_of(settings: Settings) -> list[str]:
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers, api_version=(2, 3))
    try:
        return admin.list_topics()
    finally:
        admin.close()


def send(settings: Settings, value: bytes) -> tuple[int, int]:
    producer = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, api_version=(2, 3), acks="all")
    sent = producer.send(settings.kafka_topic, value, key=b"gate").get(60)
    producer.close()
    return sent.partition, sent.offset


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in found}
    return [child for child, command in commands.items() if b"imgpipeline.stream.embedded" in command]


def test_a_record_goes_through_it_and_the_log_counts_it():
    with embedded_broker() as environment:
        settings = settings_of(environment)
        assert {log.log_end for log in read_log(settings)} == {0}
        partition, offset = send(settings, b"frame")
        assert read_log(settings)[partition].log_end == offset + 1
        record = read_record(settings, Partition(settings.kafka_topic, partition), offset)
        assert record is not None
        assert (record.key, record.value) == (b"gate", b"frame")


def test_every_start_has_new_chains_and_a_unique_id_that_all_clients_see():
    ids, chains = [], set()
    for _ in range(2):
        with embedded_broker() as environment:
            settings = settings_of(environment)
            ids += [start_id(topics_of(settings)), start_id(topics_of(settings))]
            chains |= {log.chain for log in read_log(settings)}
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert None not in ids
    assert len(chains) == 2 * 4


@pytest.mark.slow
def test_the_error_for_an_unknown_version_names_the_setting():
    with embedded_broker() as environment:
        settings = Settings(_env_file=None, kafka_bootstrap_servers=environment["IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS"])
        with pytest.raises(TransientError, match=r"IMGPIPELINE_KAFKA_API_VERSION .*2\.3"):
            read_log(settings)


def test_the_error_for_creating_a_topic_says_what_the_broker_cannot_do():
    with embedded_broker() as environment:
        settings = settings_of({**environment, "IMGPIPELINE_KAFKA_TOPIC": "other"})
        with pytest.raises(PermanentError, match="cannot create topics after its start"):
            create_topic(settings, partitions=3)


def test_another_broker_has_no_start_id():
    assert start_id(["frames", "imgpipeline"]) is None


def test_in_a_separate_process_it_has_the_topics_and_ends_with_its_context(tmp_path):
    with broker_process(tmp_path, topics=("frames", "other")) as environment:
        settings = settings_of(environment)
        assert {"frames", "other"} <= set(topics_of(settings))
        assert send(settings, b"frame")[1] == 0
        (pid,) = children_of(os.getpid())
    assert is_gone(pid)


OWNER = """
import pathlib, sys, time
from imgpipeline.stream.send import create_topic
from imgpipeline.stream.embedded import broker_process
with broker_process(pathlib.Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.medium
def test_it_ends_when_its_parent_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        (pid,) = children_of(owner.pid)
        owner.kill()
    wait_until(lambda: is_gone(pid), limit_s=60, what="the broker to end with its owner")


def test_a_broker_that_does_not_start_is_reported_with_its_log(tmp_path, monkeypatch):
    (tmp_path / "broken").write_text("#!/bin/sh\necho no interpreter >&2\nexit 3\n")
    (tmp_path / "broken").chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "broken"))
    with (
        pytest.raises(PermanentError, match=r"exit status 3\)\. Next: check .*broker\.log"),
        broker_process(tmp_path),
    ):
        pass
    assert "no interpreter" in (tmp_path / "broker.log").read_text()


@pytest.mark.medium
def test_a_live_source_can_be_published_to_a_broker_that_is_not_apache_kafka():
    with embedded_broker() as environment:
        settings = settings_of(environment)
        publisher = SourceSession(settings, "camera", SourceKind.LIVE, store=open_memory_store())
        for number in range(3):
            publisher.offer(
                CapturedFrame(NOON + timedelta(seconds=number), ClockSource.RECEIVER, data=b"a", number=number)
            )
        publisher.close()
        assert [message.frame_number for message in frames_in(read_published(settings))] == [0, 1, 2]
