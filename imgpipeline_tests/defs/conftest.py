"""Fixtures for Dagster tests: a folder store, Dagster's storage in memory, and a site with real servers."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.defs.site import Site, site_over
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Bucket


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The folder store of the environment's settings."""
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())
    return open_store(load_settings())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, kafka: KafkaBroker, topic: str, bucket: S3Bucket) -> Iterator[Site]:
    """A DAGSTER_HOME over a fresh topic and bucket, with the shipped model and short times."""
    made = site_over(tmp_path / "dagster", kafka, topic, bucket)
    yield made
    made.stop()
