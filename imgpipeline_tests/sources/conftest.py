"""The settings of a fresh topic, and a lane that follows what the sources announce."""

import pytest

from imgpipeline.settings import Settings
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.servers.kafka_broker import KafkaBroker


@pytest.fixture
def settings(kafka: KafkaBroker, topic: str) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers=kafka.bootstrap_servers, kafka_topics=(topic,))
