"""A real source and broker: the books balance with the ledger, even if the publisher was killed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from kafka import TopicPartition

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect.run import follow_lane
from imgpipeline.lake.quality.audit import audit
from imgpipeline.lake.query.books import BookEntry, read_books
from imgpipeline.lake.query.source_status import SourceState, read_source_status
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.protocol import CapturedFrame, Lost, Settled, SourceKind
from imgpipeline.sources.session import SourceSession
from imgpipeline.stream.connection import open_consumer
from imgpipeline.stream.lanes import Lane
from imgpipeline.stream.log import read_log
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.published import read_published
from imgpipeline_tests.sources.test_session import Listed

pytestmark = [pytest.mark.servers, pytest.mark.slow]
STAMPS = ("timestamp", "upload_timestamp")


@pytest.fixture
def settings(kafka: KafkaBroker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Settings(
        _env_file=None,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_topics=(topic,),
        store_url=(tmp_path / "store").as_uri(),
        linger_s=1.0,
    )


def shot(number: int, data: bytes | None = None, start: datetime | None = None) -> CapturedFrame:
    shade = np.full((32, 48, 3), number % 256, np.uint8)
    at = (start or utc_now().replace(hour=0, minute=0, second=0, microsecond=0)) + timedelta(seconds=number / 5)
    return CapturedFrame(at, ClockSource.PRODUCER, data=data or cv2.imencode(".jpg", shade)[1].tobytes(), number=number)


def detect(settings: Settings) -> None:
    follow_lane(settings, Lane(0, 1), run_id="run-1", report=lambda _: None)


def books(settings: Settings) -> list[BookEntry]:
    return list(read_books(open_store(settings), settings))


def test_a_session_closes_with_losses_dead_letters_and_a_second_run_of_the_same_images(settings):
    torn = shot(3).data or b""
    items = [shot(0), Lost("decode", 2, Settled.FAILED), Lost("queue", 4), shot(1), shot(2), shot(3, torn[:-20])]
    totals = ingest_source(settings, Listed(items))
    ingest_source(settings, Listed(items[:1]))
    detect(settings)
    first, second = books(settings)
    assert (first.received, first.announced) == (totals.received, totals.announced) == (10, 4)
    assert (first.in_ledger, first.dead_letters, first.dropped, first.failed) == (4, 1, {"queue": 4}, 2)
    assert (second.in_ledger, second.duplicates, second.announced) == (1, 1, 1)
    assert all(entry.balances and entry.state == "closed" for entry in (first, second))
    report = audit(open_store(settings), lambda: read_log(settings), now=utc_now())
    assert report.ok, report.problems
    (status,) = read_source_status(open_store(settings), settings, now=utc_now())
    assert (status.state, status.reason, status.frames_today) == (SourceState.ENDED, "end of the source", 3)


@pytest.mark.parametrize("form", list(MessageFormat), ids=str)
def test_a_consumer_of_the_frames_sees_frames_only_where_notices_have_a_topic_of_their_own(settings, kafka, form):
    frames, apart = settings.kafka_topic, f"{settings.kafka_topic}-notices"
    kafka.create_topic(apart, partitions=1)
    both = settings.model_copy(update={"kafka_topics": (frames, apart), "timestamp_fields": STAMPS})
    ingest_source(both, Listed([shot(0), Lost("queue", 4), shot(1)]), options=PublishOptions(message_format=form))
    alone = both.model_copy(update={"kafka_topics": (frames,)})
    assert len(read_values(alone)) == 2
    assert all(b'"kind"' not in value for value in read_values(alone))
    notices = read_published(both.model_copy(update={"kafka_topics": (apart,)}))
    assert [record.kind for record in notices if isinstance(record, Notice)] == ["started", "account", "ended"]
    detect(both)
    (entry,) = books(both)
    assert (entry.received, entry.announced, entry.in_ledger, entry.dead_letters) == (6, 2, 2, 0)
    assert (entry.state, entry.topic, entry.waiting, entry.difference) == ("closed", frames, 0, 0)
    report = audit(open_store(both), lambda: read_log(both), now=utc_now())
    assert report.ok, report.problems


def read_values(settings: Settings) -> list[bytes]:
    """Return the values of all records of a topic, as a plain consumer reads them."""
    with open_consumer(settings) as consumer:
        at = TopicPartition(settings.kafka_topic, 0)
        consumer.assign([at])
        consumer.seek_to_beginning(at)
        end = consumer.end_offsets([at])[at]
        values: list[bytes] = []
        while consumer.position(at) < end:
            values += [record.value for several in consumer.poll(500).values() for record in several]
    return values


def test_a_session_over_midnight_closes_on_both_days(settings):
    midnight = datetime(2026, 1, 9, 23, 59, 59, tzinfo=UTC)
    ingest_source(settings, Listed([shot(number, start=midnight) for number in range(10)]))
    detect(settings)
    found = books(settings)
    assert [(e.day.day, e.announced, e.in_ledger, e.difference) for e in found] == [(9, 5, 5, 0), (10, 5, 5, 0)]


def test_a_publisher_that_dies_leaves_an_open_interval_and_a_sound_audit(settings):
    abandoned = SourceSession(settings, "gate", SourceKind.FINITE, options=PublishOptions(commit_s=0.0))
    for number in range(5):
        abandoned.offer(shot(number))
    wait_until(lambda: abandoned.totals().announced == 5, limit_s=60, what="five announced frames")
    ingest_source(settings, Listed([shot(7)]))
    detect(settings)
    killed, later = books(settings)
    assert (killed.state, killed.in_ledger, killed.open, killed.difference) == ("open", 5, 5, 0)
    assert (later.state, later.in_ledger, later.open) == ("closed", 1, 0)
    assert audit(open_store(settings), lambda: read_log(settings), now=utc_now()).ok
    abandoned.close("end of the test", drain_s=1.0)
