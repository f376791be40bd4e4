"""Announcing over each kind of login and encryption, by an idempotent producer that waits for all replicas."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from imgpipeline.contracts.messages import FrameMessage, parse_message
from imgpipeline.contracts.records import Partition
from imgpipeline.settings import Settings, load_settings
from imgpipeline.stream.announce import Announcer, create_topic
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.fetch import read_record
from imgpipeline_tests.servers.kafka_broker import KafkaBroker, Listener
from imgpipeline_tests.servers.programs import MissingProgramError

pytestmark = pytest.mark.servers
PASSWORD = "right-horse-battery"  # noqa: S105 - made up for this test
MESSAGE = FrameMessage("gate", "images/gate/0007.jpg", datetime(2026, 1, 9, 12, tzinfo=UTC))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    folder = tmp_path_factory.mktemp("secured")
    try:
        broker = KafkaBroker(folder, listeners=("SASL_PLAINTEXT", "SSL", "SASL_SSL"), users={"admin": PASSWORD})
    except MissingProgramError as missing:
        pytest.skip(str(missing))
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
def test_row_0_9_frames_are_announced_over_each_login(
    secured: KafkaBroker, listener: Listener, mechanism: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KAFKA_USER_PASSWORD", PASSWORD)  # of the user admin
    topic = f"{listener}-{mechanism}"
    settings = settings_of(secured, listener, kafka_sasl_mechanism=mechanism, kafka_topic=topic)
    create_topic(settings, partitions=1)
    with Announcer(settings) as announcer:
        announcer.announce(MESSAGE)
    record = read_record(settings, Partition(topic, 0), 0)
    assert record is not None
    assert parse_message(record) == MESSAGE
    assert announcer.acknowledged == 1


def test_row_0_9_the_producer_is_idempotent_and_waits_for_all_replicas(secured: KafkaBroker):
    with open_producer(load_settings(kafka_bootstrap_servers=secured.bootstrap_servers)) as producer:
        assert (producer.config["acks"], producer.config["enable_idempotence"]) == (-1, True)
