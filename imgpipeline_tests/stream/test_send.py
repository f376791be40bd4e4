"""Announcements arrive in order over each kind of login, or raise an error; only the newest sender of a fence sends."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from imgpipeline.contracts.messages import FrameMessage, parse_message
from imgpipeline.contracts.records import Partition
from imgpipeline.errors import ConfigurationError, ImgpipelineError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.fetch import read_record
from imgpipeline.stream.log import read_log
from imgpipeline.stream.send import BatchSender, FencedError, Record, create_topic
from imgpipeline_tests.servers.kafka_broker import KafkaBroker, Listener

FENCE = "gate"
NOTICED_S = 2.0
"""By then the producer's thread has heard the broker's answer to a first record."""
pytestmark = pytest.mark.servers
PASSWORD = "right-horse-battery"  # noqa: S105 - made up for this test
MESSAGE = FrameMessage("gate", "images/gate/0007.jpg", datetime(2026, 1, 9, 12, tzinfo=UTC))
RECORD = Record("frames", b"gate", MESSAGE.to_value())


def settings(kafka: KafkaBroker, topic: str) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topics=(topic,))


@pytest.mark.timeout(60, func_only=True)
def test_a_missing_topic_is_an_error_and_is_not_created(kafka):
    with (
        pytest.raises(ConfigurationError, match=r"imgpipeline topics create"),
        closing(BatchSender(settings(kafka, "absent"))) as sender,
    ):
        sender.open()
    with pytest.raises(ConfigurationError):
        read_log(settings(kafka, "absent"))


def test_a_topic_is_created_once_with_its_partitions(kafka):
    chosen = settings(kafka, f"made-{uuid4().hex[:8]}")
    assert create_topic(chosen, partitions=3)
    assert len(read_log(chosen)) == 3
    assert not create_topic(chosen, partitions=5)
    assert len(read_log(chosen)) == 3


@pytest.mark.slow
@pytest.mark.servers
def test_a_broker_that_dies_is_an_error_of_the_sender(tmp_path, monkeypatch):
    monkeypatch.setattr("imgpipeline.stream.send.DELIVERY_TIMEOUT_MS", 3000)
    broker = KafkaBroker(tmp_path)
    with broker:
        broker.create_topic("frames")
        with closing(BatchSender(settings(broker, "frames"))) as sender:
            sender.send([RECORD])
            broker.kill()
            with pytest.raises(ImgpipelineError, match="IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS"):
                sender.send([RECORD])


class Slow(list[Record]):
    """Records that come one by one, slowly."""

    def __iter__(self) -> Iterator[Record]:
        """Yield each record a while after the one before."""
        for number, record in enumerate(super().__iter__()):
            if number:
                time.sleep(NOTICED_S)
            yield record


@pytest.mark.slow
@pytest.mark.parametrize("records", [list, Slow], ids=["when it commits", "between two records"])
def test_the_older_sender_is_told_that_another_has_taken_over(settings, topic, records):
    batch = records(Record(topic, b"gate", b"%d" % number) for number in range(3))
    with (
        closing(BatchSender(settings, fence=FENCE, topics=[topic])) as older,
        closing(BatchSender(settings, fence=FENCE, topics=[topic])) as newer,
    ):
        older.send(batch)
        newer.send(batch)
        with pytest.raises(FencedError, match=f"Another process has taken over {FENCE}"):
            older.send(batch)
        newer.send(batch)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    folder = tmp_path_factory.mktemp("secured")
    broker = KafkaBroker(folder, listeners=("SASL_PLAINTEXT", "SSL", "SASL_SSL"), users={"admin": PASSWORD})
    with broker:
        yield broker


def settings_of(broker: KafkaBroker, listener: Listener, **values: Any) -> Settings:
    assert broker.certificates is not None
    return load_settings(
        kafka_bootstrap_servers=broker.address(listener),
        kafka_security_protocol=listener,
        kafka_ca_file=broker.certificates.ca_file,
        **values,
    )


@pytest.mark.parametrize(
    ("listener", "mechanism"),
    [
        ("SASL_PLAINTEXT", "PLAIN"),
        ("SASL_PLAINTEXT", "SCRAM-SHA-512"),
        ("SSL", "PLAIN"),
        ("SASL_SSL", "PLAIN"),
        ("SASL_SSL", "SCRAM-SHA-512"),
    ],
    ids=["plain", "scram", "tls", "plain over tls", "scram over tls"],
)
def test_frames_are_announced_over_each_login(secured, listener, mechanism, monkeypatch):
    monkeypatch.setenv("KAFKA_USER_PASSWORD", PASSWORD)  # of the user admin
    topic = f"{listener}-{mechanism}"
    settings = settings_of(secured, listener, kafka_sasl_mechanism=mechanism, kafka_topics=(topic,))
    create_topic(settings, partitions=1)
    with closing(BatchSender(settings)) as sender:
        sender.send([replace(RECORD, topic=topic)])
    record = read_record(settings, Partition(topic, 0), 0)
    assert record is not None
    assert parse_message(record) == MESSAGE


def test_the_producer_is_idempotent_and_waits_for_all_replicas(secured):
    with open_producer(load_settings(kafka_bootstrap_servers=secured.bootstrap_servers)) as producer:
        assert (producer.config["acks"], producer.config["enable_idempotence"]) == (-1, True)
