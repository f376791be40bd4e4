"""Opens and closes clients of kafka-python with the configured options.

Failures become errors of this project with their cause (`diagnosis`), since kafka-python reports a wrong password, a
wrong certificate authority and a closed port in the same way.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from imgpipeline.errors import PermanentError
from imgpipeline.settings import Settings
from imgpipeline.stream.diagnosis import UnreachableBrokerError, explain_kafka_failure
from imgpipeline.stream.kafka_internals import mend_consumer

FIRST_TIMEOUT_MS = 1_500
"""Time-out of the first attempt to reach a broker, short so that a wrong setting is reported soon."""
BOOTSTRAP_TIMEOUT_MS = 4_000
"""Time-out of the second attempt, made if no setting is wrong; a restarting broker takes about 4 s."""

Client = TypeVar("Client", KafkaAdminClient, KafkaConsumer, KafkaProducer)


def kafka_options(settings: Settings) -> dict[str, Any]:
    """Returns the options of every client. They contain the password, so do not log them."""
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.kafka_bootstrap_servers.split(",")],
        "client_id": "imgpipeline",
        "security_protocol": settings.kafka_security_protocol,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        # Reconnect to a restarted broker within half a second, instead of kafka-python's 30 s.
        "reconnect_backoff_max_ms": 500,
    }
    if settings.kafka_api_version:
        options["api_version"] = tuple(int(part) for part in settings.kafka_api_version.split("."))
    if settings.kafka_security_protocol.endswith("SSL") and settings.kafka_ca_file:
        options["ssl_cafile"] = str(settings.kafka_ca_file)
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_password
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return options


@contextlib.contextmanager
def kafka_errors(settings: Settings) -> Iterator[None]:
    """Translates errors of kafka-python in the body into errors of this project; other errors pass through.

    Raises:
        ConfigurationError: A setting is wrong; the message names it.
        TransientError: The broker does not answer in time.
    """
    try:
        yield
    except KafkaError as error:
        raise explain_kafka_failure(settings, error) from error


def _open(settings: Settings, client: type[Client], options: dict[str, Any]) -> Client:
    """Opens a client in two attempts, so that a wrong setting fails soon and a restart of the broker does not."""
    try:
        return client(**{**options, "bootstrap_timeout_ms": FIRST_TIMEOUT_MS})
    except KafkaError as error:
        explained = explain_kafka_failure(settings, error)
        if isinstance(explained, PermanentError) and not isinstance(explained, UnreachableBrokerError):
            raise explained from error
    except OSError as error:  # a certificate file cannot be read, or a port cannot be opened
        raise explain_kafka_failure(settings, error) from error
    return client(**options)


@contextlib.contextmanager
def open_admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    """Opens an admin client for the body; errors are translated as by `kafka_errors`."""
    with (
        kafka_errors(settings),
        contextlib.closing(_open(settings, KafkaAdminClient, kafka_options(settings))) as admin,
    ):
        yield admin


@contextlib.contextmanager
def open_consumer(settings: Settings, **options: Any) -> Iterator[KafkaConsumer]:
    """Opens a consumer without group that never skips offsets silently; errors are translated as by `kafka_errors`."""
    chosen: dict[str, Any] = {
        **kafka_options(settings),
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "isolation_level": "read_committed",
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
        **options,
    }
    with kafka_errors(settings), contextlib.closing(_open(settings, KafkaConsumer, chosen)) as consumer:
        mend_consumer(consumer)
        yield consumer


@contextlib.contextmanager
def open_producer(settings: Settings, **options: Any) -> Iterator[KafkaProducer]:
    """Opens an idempotent producer that waits for all replicas; errors are translated as by `kafka_errors`."""
    own = {"acks": "all", "enable_idempotence": True, "linger_ms": 5, "metrics_enabled": False}
    chosen = {**kafka_options(settings), **own, **options}
    with kafka_errors(settings), contextlib.closing(_open(settings, KafkaProducer, chosen)) as producer:
        yield producer


@contextlib.contextmanager
def open_sender(settings: Settings, **options: Any) -> Iterator[KafkaProducer]:
    """Opens a producer that, when closed, abandons unacknowledged records instead of waiting for them."""
    chosen = {**kafka_options(settings), "acks": "all", "linger_ms": 0, "metrics_enabled": False, **options}
    with kafka_errors(settings):
        producer = _open(settings, KafkaProducer, chosen)
        try:
            yield producer
        finally:
            try:
                producer.close(timeout=0)
            except KafkaTimeoutError:
                # kafka-python 3.0.12 flushes before it closes, so a batch for a dead broker keeps the sending thread
                # alive forever.
                producer._sender.force_close()  # noqa: SLF001 - the only way to end that thread
