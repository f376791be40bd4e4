"""Settings that name the session's broker."""

import pytest

from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.servers.kafka_broker import KafkaBroker


@pytest.fixture
def settings(kafka: KafkaBroker, topic: str) -> Settings:
    return load_settings(
        kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topics=(topic,), kafka_group=f"group-of-{topic}"
    )
