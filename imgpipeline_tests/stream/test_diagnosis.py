"""The error for an unusable Kafka comes soon and names the one setting to change, and never the password."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.settings import Settings
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.diagnosis import Server, explain_kafka_failure, parse_servers
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.ports import free_port

pytestmark = pytest.mark.servers
PASSWORD = "right-horse-battery"  # noqa: S105 - made up for this test
WRONG = {"kafka_password": "wrong-horse"}
LIMIT_S = 90.0
"""Longer than every time-out of the diagnosis, and shorter than a user's patience."""
FAILED = KafkaTimeoutError("Unable to bootstrap from somewhere")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(
        tmp_path_factory.mktemp("secured"),
        listeners=("SASL_PLAINTEXT", "SSL", "SASL_SSL"),
        users={"alice": PASSWORD},
        properties={"listener.name.sasl_ssl.sasl.enabled.mechanisms": "SCRAM-SHA-512"},
    )
    with broker:
        yield broker


def settings(servers: str, **values: Any) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers=servers, **values)


def login(protocol: str = "SASL_PLAINTEXT", **values: Any) -> dict[str, Any]:
    return {
        "kafka_security_protocol": protocol,
        "kafka_username": "alice",
        "kafka_password": PASSWORD,
        **values,
    }


def explained(chosen: Settings) -> ImgpipelineError:
    began = time.monotonic()
    error = explain_kafka_failure(chosen, FAILED)
    assert time.monotonic() - began < LIMIT_S
    secret = chosen.kafka_password.get_secret_value() if chosen.kafka_password else PASSWORD
    assert secret not in str(error)
    return error


def assert_names(error: ImgpipelineError, *parts: str) -> None:
    assert isinstance(error, ConfigurationError), error
    assert error.next_step is not None
    for part in parts:
        assert part in str(error)


def test_a_closed_port():
    error = explained(settings(f"127.0.0.1:{free_port()}"))
    assert_names(error, "nothing listens there", "set IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS")


def test_a_name_that_does_not_exist():
    error = explained(settings("kafka.invalid:9092"))
    assert_names(error, "'kafka.invalid' ", "resolved", "set IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS")


@pytest.mark.slow
def test_of_several_dead_servers_each_is_named_with_its_reason():
    closed = free_port()
    error = explained(settings(f"127.0.0.1:{closed},kafka.invalid:9092"))
    assert_names(error, f"127.0.0.1:{closed}: the port is closed", "kafka.invalid:9092: the name")


@pytest.mark.parametrize("text", ["localhost", "localhost:", "localhost:http", ":9092", "localhost:99999", "a:1,,b:2"])
def test_servers_that_are_not_host_and_port(text):
    assert_names(explained(settings(text)), "is not host:port", "set IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS to host:port")


def test_servers_are_read_as_host_and_port():
    assert parse_servers("a:1, b.c:65535 ,[::1]:9092") == [Server("a", 1), Server("b.c", 65535), Server("::1", 9092)]


@pytest.mark.slow
def test_a_port_that_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = explained(settings(f"127.0.0.1:{silent.getsockname()[1]}"))
    assert isinstance(error, TransientError)
    assert "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS" in str(error)


@pytest.mark.slow
def test_a_port_of_another_protocol():
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_as_web_server, args=(server,), daemon=True).start()
        error = explained(settings(f"127.0.0.1:{server.getsockname()[1]}"))
    assert_names(error, "does not speak Kafka", "set IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS")


def answer_as_web_server(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            if connection.recv(1000):  # a client that only checks whether the port is open sends nothing
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@pytest.mark.fault(33)
def test_a_wrong_password_through_tls(secured):
    chosen = login("SASL_SSL", **WRONG, kafka_sasl_mechanism="SCRAM-SHA-512")
    error = explained(settings(secured.address("SASL_SSL"), kafka_ca_file=authority(secured), **chosen))
    assert_names(error, "correct IMGPIPELINE_KAFKA_USERNAME and IMGPIPELINE_KAFKA_PASSWORD")


def test_a_password_that_is_not_set(secured):
    error = explained(settings(secured.address("SASL_PLAINTEXT"), **login(kafka_password=None)))
    assert_names(error, "IMGPIPELINE_KAFKA_PASSWORD is not set")
    assert "USERNAME" not in str(error)


@pytest.mark.fault(33)
def test_a_mechanism_that_is_not_enabled(secured):
    chosen = login("SASL_SSL", kafka_sasl_mechanism="PLAIN", kafka_ca_file=authority(secured))
    error = explained(settings(secured.address("SASL_SSL"), **chosen))
    assert_names(error, "it supports SCRAM-SHA-512", "set IMGPIPELINE_KAFKA_SASL_MECHANISM")


@pytest.mark.fault(33)
def test_a_wrong_authority(secured):
    assert secured.certificates is not None
    chosen = login("SASL_SSL", kafka_ca_file=secured.certificates.wrong_ca_file)
    error = explained(settings(secured.address("SASL_SSL"), **chosen))
    assert_names(error, "was not signed by", "set IMGPIPELINE_KAFKA_CA_FILE")


def test_no_authority(secured):
    error = explained(settings(secured.address("SASL_SSL"), **login("SASL_SSL")))
    assert_names(error, "the system's authorities", "set IMGPIPELINE_KAFKA_CA_FILE")


def test_a_missing_authority_file(secured, tmp_path):
    chosen = login("SASL_SSL", kafka_ca_file=tmp_path / "ca.pem")
    error = explained(settings(secured.address("SASL_SSL"), **chosen))
    assert_names(error, "No such file", "set IMGPIPELINE_KAFKA_CA_FILE")


def test_an_authority_file_that_is_not_a_certificate(secured, tmp_path):
    (tmp_path / "ca.pem").write_text("not a certificate")
    chosen = login("SASL_SSL", kafka_ca_file=tmp_path / "ca.pem")
    error = explained(settings(secured.address("SASL_SSL"), **chosen))
    assert_names(error, "cannot be used", "set IMGPIPELINE_KAFKA_CA_FILE")


@pytest.mark.parametrize(
    ("protocol", "listener", "expected"),
    [
        ("PLAINTEXT", "SASL_SSL", "to SASL_SSL, and IMGPIPELINE_KAFKA_USERNAME"),
        ("SASL_PLAINTEXT", "PLAINTEXT", "to PLAINTEXT"),
        ("SSL", "PLAINTEXT", "to PLAINTEXT"),
        ("SASL_SSL", "SASL_PLAINTEXT", "to SASL_PLAINTEXT"),
        ("SASL_SSL", "SSL", "to SSL"),
    ],
)
@pytest.mark.slow
def test_a_security_protocol_that_the_port_does_not_speak(secured, protocol, listener, expected):
    ca_file = authority(secured) if protocol.endswith("SSL") else None
    error = explained(settings(secured.address(listener), **login(protocol, kafka_ca_file=ca_file)))
    assert_names(error, "IMGPIPELINE_KAFKA_SECURITY_PROTOCOL is", f"IMGPIPELINE_KAFKA_SECURITY_PROTOCOL {expected}")


@pytest.mark.slow
def test_an_unreachable_advertised_address_is_found_also_where_the_broker_answers_late(tmp_path, monkeypatch):
    nowhere = free_port()
    broker = KafkaBroker(tmp_path, properties={"advertised.listeners": f"PLAINTEXT://127.0.0.1:{nowhere}"})
    with broker:
        assert_names(explained(settings(broker.bootstrap_servers)), f"127.0.0.1:{nowhere}", "advertised.listeners")
        monkeypatch.setattr("imgpipeline.stream.diagnosis.ANSWER_TIMEOUT_S", 0.002)
        assert_names(explained(settings(broker.bootstrap_servers)), f"127.0.0.1:{nowhere}", "advertised.listeners")


def test_a_failure_at_a_healthy_broker_is_transient(secured):
    error = explained(settings(secured.address("PLAINTEXT")))
    assert isinstance(error, TransientError)
    assert "Unable to bootstrap from somewhere" in str(error)


def test_a_missing_right_names_the_user():
    error = explain_kafka_failure(settings("127.0.0.1:9092", kafka_username="bob"), TopicAuthorizationFailedError())
    assert isinstance(error, PermanentError)
    assert "'bob'" in str(error)


def test_a_missing_topic_names_the_command_that_makes_it():
    error = explain_kafka_failure(settings("127.0.0.1:9092"), UnknownTopicOrPartitionError())
    assert_names(error, "'frames'", "imgpipeline topics create", "IMGPIPELINE_KAFKA_TOPIC")


def test_an_explained_error_is_returned_unchanged():
    explained_before = ConfigurationError("so it is")
    assert explain_kafka_failure(settings("127.0.0.1:9092"), explained_before) is explained_before


@pytest.mark.fault(33)
def test_with_kafka_python_itself_a_wrong_password_is_named_instead_of_retried(secured):
    chosen = settings(secured.address("SASL_PLAINTEXT"), **login(**WRONG))
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_KAFKA_PASSWORD"), open_admin(chosen):
        pass
    assert time.monotonic() - began < LIMIT_S


def authority(broker: KafkaBroker) -> Path:
    assert broker.certificates is not None
    return broker.certificates.ca_file
