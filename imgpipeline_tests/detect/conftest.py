"""A lane over real servers: a topic, a bucket, and the settings that name both."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from kafka import KafkaProducer

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.outcomes import DeadLetter, Frame, Gap, Outcome, offsets_of
from imgpipeline.contracts.records import Partition
from imgpipeline.detect.report import LaneReport
from imgpipeline.detect.run import follow_lane
from imgpipeline.ledger.reading import fix_ends, list_segments, read_segments
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.lanes import Lane
from imgpipeline.stream.log import read_log
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Bucket

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class LaneUnderTest:
    """A topic and a bucket, filled and followed by a test."""

    settings: Settings
    reports: list[LaneReport] = field(default_factory=list)

    @property
    def store(self) -> ObjectStore:
        return open_store(self.settings)

    def partition(self, number: int = 0) -> Partition:
        return Partition(self.settings.kafka_topic, number)

    def chain(self, number: int = 0) -> ChainId:
        """Returns the first chain of a partition."""
        return next(log.chain for log in read_log(self.settings) if log.partition == number)

    def with_settings(self, **changes: Any) -> "LaneUnderTest":
        return LaneUnderTest(self.settings.model_copy(update=changes))

    def put_image(self, key: str, data: bytes | None = None) -> str:
        self.store.put(key, data if data is not None else jpeg())
        return key

    def send(
        self,
        *values: bytes | None,
        key: bytes = b"camera",
        headers: Mapping[str, bytes] | None = None,
        partition: int | None = None,
    ) -> None:
        options = {"key": key, "headers": list((headers or {}).items()), "partition": partition}
        with open_producer(self.settings) as producer:
            for value in values:
                producer.send(self.settings.kafka_topic, value=value, **options)
            producer.flush()

    def announce(
        self, count: int, *, source: str = "camera", first: int = 0, partition: int | None = None
    ) -> list[FrameMessage]:
        """Announces one frame per second, each with an image."""
        path = self.put_image(f"images/{source}/one.jpg")
        messages = [
            FrameMessage(source, path, START + timedelta(seconds=n), frame_number=n)
            for n in range(first, first + count)
        ]
        self.send(*[m.to_value() for m in messages], key=source.encode(), partition=partition)
        return messages

    def follow(self, lane: Lane = Lane(0, 1), stop: threading.Event | None = None) -> LaneReport:  # noqa: B008 - a value
        return follow_lane(self.settings, lane, run_id="test-run", report=self.reports.append, stop=stop)

    def outcomes(self) -> list[Outcome]:
        """Returns the outcomes in the ledger, in the order of chain and offset."""
        found: list[Outcome] = []
        for chain, end in fix_ends(self.store).items():
            starts = list_segments(self.store, chain, 0, end.offset)
            for segment in read_segments(self.store, chain, starts):
                found += segment.outcomes()
        return found

    def frames(self) -> list[Frame]:
        return [o for o in self.outcomes() if isinstance(o, Frame)]

    def dead_letters(self) -> list[DeadLetter]:
        return [o for o in self.outcomes() if isinstance(o, DeadLetter)]

    def gaps(self) -> list[Gap]:
        return [o for o in self.outcomes() if isinstance(o, Gap)]


def jpeg(seed: int = 3, number: int = 20) -> bytes:
    """Returns a simulated street as JPEG."""
    image, _ = Scene(seed, frames=60).frame(number)
    return encode(image, ".jpg")


def encode(image: np.ndarray[Any, Any], suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, image)
    assert done
    return data.tobytes()


def message(**fields: Any) -> bytes:
    return json.dumps({"source": "camera", "timestamp": "2026-03-01T12:00:00Z", **fields}).encode()


def segments(lane: LaneUnderTest) -> int:
    return sum(len(list_segments(lane.store, chain, 0, end.offset)) for chain, end in fix_ends(lane.store).items())


def has_each_offset_once(outcomes: list[Outcome], end: int) -> bool:
    """Whether the outcomes of one partition cover `[0, end)`, each offset once and in order."""
    ranges = [(0, 0), *(offsets_of(outcome) for outcome in outcomes), (end, end)]
    return all(before[1] == after[0] for before, after in pairwise(ranges))


@pytest.fixture
def lane(kafka: KafkaBroker, topic: str, bucket: S3Bucket) -> LaneUnderTest:
    return LaneUnderTest(
        load_settings(
            kafka_bootstrap_servers=kafka.bootstrap_servers,
            kafka_topics=(topic,),
            kafka_group=f"group-of-{topic}",
            store_url=f"{bucket.url}/lane",
            s3_endpoint=bucket.endpoint,
            s3_access_key_id=bucket.access_key_id,
            s3_secret_access_key=bucket.secret_access_key,
            linger_s=0.5,
            commit_interval_s=0.3,
            model_threads=1,
        )
    )


@pytest.fixture
def producer(kafka: KafkaBroker) -> Iterator[KafkaProducer]:
    """A plain producer, as other programs have."""
    opened = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    yield opened
    opened.close()


@contextmanager
def running(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Runs work in a thread during the test, joins the thread at the end, and returns the result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    try:
        yield results
    finally:
        thread.join(60)
        assert not thread.is_alive()
