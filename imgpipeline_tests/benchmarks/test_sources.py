"""A source and the plain loop beside it do the same work, so that the ratio of their rates means something."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from benchmarks.sources import publish_plainly, write_pictures
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.folder import open_folder
from imgpipeline.sources.ingest import ingest_source
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.sources.published import frames_in, read_published

pytestmark = [pytest.mark.servers, pytest.mark.medium]


@pytest.fixture
def settings_of(kafka: KafkaBroker, make_topic: Callable[..., str]) -> Callable[[Path], Settings]:
    """Makes settings with a topic of their own and this folder as the store."""
    servers = {"_env_file": None, "kafka_bootstrap_servers": kafka.bootstrap_servers}
    return lambda folder: Settings(**servers, kafka_topics=(make_topic(),), store_url=folder.as_uri())


def announced(settings: Settings) -> list[FrameMessage]:
    """The frames of a topic, without the session, which a plain loop does not have."""
    return [
        replace(message, attributes={k: v for k, v in message.attributes.items() if k != "session"})
        for message in frames_in(read_published(settings))
    ]


def test_a_plain_loop_stores_and_announces_what_the_publisher_does(settings_of, tmp_path):
    pictures = write_pictures(tmp_path / "pictures", 5)
    ours, theirs = settings_of(tmp_path / "ours"), settings_of(tmp_path / "theirs")
    ingest_source(ours, open_folder(ours, pictures, "camera"))
    publish_plainly(theirs, "camera", open_folder(theirs, pictures, "camera").capture(Event()))
    assert len(announced(ours)) == 5
    assert announced(ours) == announced(theirs)
    for message in announced(ours):
        key = str(message.image_path)
        assert open_store(ours).get(key) == open_store(theirs).get(key)
