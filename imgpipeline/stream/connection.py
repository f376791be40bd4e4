"""Opens and closes clients of kafka-python.

Failures become errors of this project with their cause (`diagnosis`), since kafka-python reports a wrong password, a
wrong certificate authority and a closed port alike.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from imgpipeline.errors import PermanentError
from imgpipeline.settings import Settings
from imgpipeline.stream.diagnosis import UnreachableBrokerError, explain_kafka_failure
from imgpipeline.stream.kafka_internals import accept_any_header_name
from imgpipeline.stream.options import FIRST_TIMEOUT_MS, kafka_options

Client = TypeVar("Client", KafkaAdminClient, KafkaConsumer, KafkaProducer)


@contextlib.contextmanager
def kafka_errors(settings: Settings) -> Iterator[None]:
    """Turns what kafka-python raises inside into one of this project's errors, and nothing else.

    Raises:
        ConfigurationError: A setting is wrong; the message names it.
        TransientError: The broker does not answer, or not in time.
    """
    try:
        yield
    except KafkaError as error:
        raise explain_kafka_failure(settings, error) from error


def _open(settings: Settings, client: type[Client], options: dict[str, Any]) -> Client:
    """Opens a client in two attempts: a wrong setting fails at once, and a restart is waited for."""
    try:
        return client(**{**options, "bootstrap_timeout_ms": FIRST_TIMEOUT_MS})
    except KafkaError as error:
        explained = explain_kafka_failure(settings, error)
        if isinstance(explained, PermanentError) and not isinstance(explained, UnreachableBrokerError):
            raise explained from error
    except OSError as error:  # a file of certificates that cannot be read, a port that cannot be opened
        raise explain_kafka_failure(settings, error) from error
    return client(**options)


@contextlib.contextmanager
def open_admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    """Opens an admin client and closes it again; errors inside are explained (`kafka_errors`)."""
    with (
        kafka_errors(settings),
        contextlib.closing(_open(settings, KafkaAdminClient, kafka_options(settings))) as admin,
    ):
        yield admin


@contextlib.contextmanager
def open_consumer(settings: Settings, **options: Any) -> Iterator[KafkaConsumer]:
    """Opens a consumer without group that never jumps by itself, and closes it again; errors inside are explained."""
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
        accept_any_header_name(consumer)
        yield consumer


@contextlib.contextmanager
def open_producer(settings: Settings, **options: Any) -> Iterator[KafkaProducer]:
    """Opens an idempotent producer that waits for all replicas, and closes it again; errors inside are explained."""
    own = {"acks": "all", "enable_idempotence": True, "linger_ms": 5, "metrics_enabled": False}
    chosen = {**kafka_options(settings), **own, **options}
    with kafka_errors(settings), contextlib.closing(_open(settings, KafkaProducer, chosen)) as producer:
        yield producer


@contextlib.contextmanager
def open_sender(settings: Settings, **options: Any) -> Iterator[KafkaProducer]:
    """Opens a producer as `open_producer`; closing gives up what is not acknowledged, instead of waiting for it."""
    chosen = {**kafka_options(settings), "acks": "all", "linger_ms": 0, "metrics_enabled": False, **options}
    with kafka_errors(settings):
        producer = _open(settings, KafkaProducer, chosen)
        try:
            yield producer
        finally:
            try:
                producer.close(timeout=0)
            except KafkaTimeoutError:
                # kafka-python 3.0.12 flushes before it closes, so a batch that a dead broker never took keeps its
                # thread alive for good.
                producer._sender.force_close()  # noqa: SLF001 - the only way to end that thread
