"""A publisher without frames: it sends the accounts that are due, and otherwise waits."""

import threading
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import CapturedFrame, SourceKind
from imgpipeline.sources.publisher import Publisher
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = [pytest.mark.servers, pytest.mark.medium]
NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


@pytest.mark.parametrize("kind", list(SourceKind))
def test_a_publisher_with_nothing_to_send_waits_and_does_not_spin(kafka: KafkaBroker, topic: str, kind: SourceKind):
    """Counted in calls of functions, which a thread that waits does not make however busy the machine is."""
    settings = Settings(_env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topic=topic)
    calls = Counter[str]()

    def count(*_: object) -> None:
        calls[threading.current_thread().name] += 1

    options = PublishOptions(account_s=0.2, idle_account_s=0.2, commit_s=0.0)
    threading.setprofile(count)
    try:
        publisher = Publisher(settings, "gate", kind, store=open_memory_store(), options=options)
        publisher.offer(CapturedFrame(NOON, ClockSource.PRODUCER, data=jpeg()))
        wait_until(lambda: publisher.totals().announced == 1, limit_s=60, what="the frame is announced")
        time.sleep(2)  # ten times an account is due
    finally:
        threading.setprofile(None)
    publisher.close()
    assert 0 < calls["announce gate"] < 100_000, calls
