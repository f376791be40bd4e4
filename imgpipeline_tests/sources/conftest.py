"""The settings of a fresh topic, for the tests of sources."""

import pytest

from imgpipeline.settings import Settings
from imgpipeline_tests.servers.kafka_broker import KafkaBroker


@pytest.fixture
def settings(kafka: KafkaBroker, topic: str) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topics=(topic,))
