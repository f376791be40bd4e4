"""The environment of a site with real servers, for commands."""

from pathlib import Path

import pytest

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.cli.samples import OpenStore
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Bucket


@pytest.fixture
def site(kafka: KafkaBroker, topic: str, bucket: S3Bucket) -> dict[str, str]:
    """The environment of a site with a fresh topic and a fresh bucket."""
    return {
        **bucket.environment(),
        "IMGPIPELINE_STORE_URL": f"{bucket.url}/site",
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "IMGPIPELINE_KAFKA_TOPIC": topic,
    }


@pytest.fixture
def folder_site(tmp_path: Path) -> dict[str, str]:
    """The environment of a site with a store in a folder and no Kafka."""
    return {"IMGPIPELINE_STORE_URL": (tmp_path / "store").as_uri()}


@pytest.fixture
def store_of(monkeypatch: pytest.MonkeyPatch) -> OpenStore:
    """Open the store that a site's environment names."""

    def open_it(environment: dict[str, str]) -> ObjectStore:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return open_store(load_settings())

    return open_it
