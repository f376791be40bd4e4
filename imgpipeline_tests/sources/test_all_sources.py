"""Every kind of source gives the same detections for the same hundred frames, and its accounts balance.

Each frame shows its number in a corner, so the test recognises it after any transport.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from kafka import KafkaProducer

from imgpipeline import Lake
from imgpipeline.contracts.capture import ClockSource
from imgpipeline.objectstore import ImageReader, open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.folder import open_folder
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.mqtt.messages import Subscription
from imgpipeline.sources.protocol import CapturedFrame, Settled, Source, SourceKind
from imgpipeline.sources.rtsp import RtspSource
from imgpipeline.sources.sequence import SequenceSource
from imgpipeline.sources.simulator.rtsp_simulator import SimulatedCamera, numbered_frames, write_clip
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.stored_images import BucketSource
from imgpipeline.sources.video import VideoSource
from imgpipeline.sources.watched_folder import WatchedFolder, WatchOptions
from imgpipeline.vision.configured import load_configured_detector
from imgpipeline.vision.image_detector import ImageDetector
from imgpipeline_tests.detect.conftest import LaneUnderTest
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.rtsp_server import RtspServer
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import at, running, send, until_subscribed
from imgpipeline_tests.sources.numbered import read_number
from imgpipeline_tests.web.ingest.serving import serving

pytestmark = [pytest.mark.servers, pytest.mark.slow]
FRAMES = 20
NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Site:
    """Where a source publishes."""

    settings: Settings
    folder: Path


@lru_cache(maxsize=1)
def pictures() -> tuple[np.ndarray, ...]:
    return tuple(pixels for pixels, _ in numbered_frames(Scene(3, frames=FRAMES)))


@lru_cache(maxsize=1)
def jpegs() -> tuple[bytes, ...]:
    return tuple(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for pixels in pictures())


Box = tuple[str, tuple[float, ...]]
Found = dict[int, list[Box]]
"""Labels and boxes, by the number of the frame."""


def _box(label: str, box_xywh: tuple[float, ...] | None) -> Box:
    return label, tuple(round(side, 2) for side in box_xywh or ())


@lru_cache(maxsize=1)
def expected() -> Found:
    settings = load_settings(store_url="file:///unused")
    detector = ImageDetector(settings, load_configured_detector(settings))
    return {
        number: sorted(_box(found.label, found.box_xywh) for found in detector.detect(data).detections)
        for number, data in enumerate(jpegs())
    }


def write_files(folder: Path) -> Path:
    folder.mkdir()
    for number, data in enumerate(jpegs()):
        (folder / f"{number:07d}.jpg").write_bytes(data)
    return folder


class UntilAll:
    """A source that ends once every number is announced, because a camera would never end."""

    def __init__(self, source: Source) -> None:
        self.name, self.kind, self._source = source.name, source.kind, source

    def capture(self, _stop: threading.Event) -> Any:
        missing, all_announced = set(range(FRAMES)), threading.Event()

        def settled(number: int, how: Settled) -> None:
            if how is Settled.ANNOUNCED:
                missing.discard(number)
            if not missing:
                all_announced.set()

        for captured in self._source.capture(all_announced):
            if isinstance(captured, CapturedFrame):
                number = number_of(captured.data or b"")
                yield replace(captured, settle=partial(settled, number))
            else:
                yield captured


def number_of(data: bytes) -> int:
    number = read_number(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    return -1 if number is None else number


def feed_folder(site: Site) -> None:
    ingest_source(site.settings, open_folder(site.settings, write_files(site.folder / "images"), "camera"))


def feed_watched_folder(site: Site) -> None:
    options = WatchOptions(rescan_s=0.2, state_file=site.folder / "state.sqlite")
    folder = WatchedFolder(site.settings, write_files(site.folder / "images"), "camera", options)
    ingest_source(site.settings, UntilAll(folder))


def feed_sequence(site: Site) -> None:
    ingest_source(
        site.settings, SequenceSource(site.settings, write_files(site.folder / "images"), "camera", start=NOON)
    )


def feed_video(site: Site) -> None:
    """The clip is lossless, so the frames that are decoded and stored as JPEG equal the original ones."""
    clip = site.folder / "clip.mov"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = pictures()[0].shape[1], pictures()[0].shape[0], "rgb24"
        for pixels in pictures():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode())
    ingest_source(site.settings, VideoSource(clip, "camera", start=NOON))


def feed_bucket(site: Site) -> None:
    store = open_store(site.settings)
    for number, data in enumerate(jpegs()):
        store.create(f"images/archive/{number:07d}.jpg", data)
    ingest_source(site.settings, BucketSource(site.settings, f"{site.settings.store_url}/images/archive", "camera"))


def feed_mqtt(site: Site) -> None:
    with Mosquitto(site.folder / "mosquitto") as broker:
        settings = at(broker, site.settings)
        with running(settings, Subscription(("images/+/raw",))) as ingest:
            until_subscribed(broker, settings)
            send(broker, [("images/camera/raw", data) for data in jpegs()])
            wait_until(lambda: ingest.announced == FRAMES, limit_s=60, what="all frames")


def feed_http(site: Site) -> None:
    with serving(site.settings) as client:
        for number, data in enumerate(jpegs()):
            time = (NOON + timedelta(seconds=number)).isoformat()
            answer = client.post("/frames/camera", params={"timestamp": time, "number": number}, content=data)
            assert answer.is_success, answer.text


def feed_own_class(site: Site) -> None:
    class Own:
        name, kind = "camera", SourceKind.FINITE

        def capture(self, stop: threading.Event) -> Any:
            for number, data in enumerate(jpegs()):
                if stop.is_set():
                    return
                yield CapturedFrame(NOON + timedelta(seconds=number), ClockSource.PRODUCER, data=data, number=number)

    ingest_source(site.settings, Own())


def feed_kafka_producer(site: Site) -> None:
    store, producer = (
        open_store(site.settings),
        KafkaProducer(bootstrap_servers=site.settings.kafka_bootstrap_servers, acks="all"),
    )
    for number, data in enumerate(jpegs()):
        store.create(f"images/{number}.jpg", data)
        time = NOON + timedelta(seconds=number)
        value = {"source": "camera", "image_path": f"images/{number}.jpg", "timestamp": time.isoformat()}
        producer.send(site.settings.kafka_topic, json.dumps(value).encode(), key=b"camera")
    producer.close()


def feed_rtsp(site: Site) -> None:
    clip = site.folder / "camera.clip"
    write_clip(pictures(), clip, codec="mjpeg", fps=10)
    server = RtspServer([SimulatedCamera("camera", str(clip), "mjpeg", 10.0)])
    with server:
        ingest_source(site.settings, UntilAll(RtspSource("camera", server.url("camera"))))


FEEDS: dict[str, Callable[[Site], None]] = {
    "folder": feed_folder,
    "watched folder": feed_watched_folder,
    "sequence": feed_sequence,
    "video": feed_video,
    "bucket": feed_bucket,
    "mqtt": feed_mqtt,
    "http": feed_http,
    "own class": feed_own_class,
    "producer": feed_kafka_producer,
    "rtsp": feed_rtsp,
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", list(FEEDS))
def test_the_same_frames_give_the_same_detections_through_every_source(kind, kafka, topic, bucket, tmp_path):
    settings = load_settings(
        store_url=bucket.url,
        s3_endpoint=bucket.endpoint,
        s3_access_key_id=bucket.access_key_id,
        s3_secret_access_key=bucket.secret_access_key,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_topics=(topic,),
        linger_s=2.0,
    )
    FEEDS[kind](Site(settings, tmp_path))
    LaneUnderTest(settings).follow()
    lake = Lake.open(settings)
    images = ImageReader(open_store(settings), settings)
    days = lake.days()
    frames = lake.frames(from_day=days[0], to_day=days[-1])
    numbers = {row.frame_id: number_of(images.read(row.source_image_path).data) for row in frames.itertuples()}
    found: Found = {number: [] for number in numbers.values()}
    first: dict[int, str] = {}
    for frame_id, number in numbers.items():
        first.setdefault(number, frame_id)
    for row in lake.detections(from_day=days[0], to_day=days[-1]).itertuples():
        number = numbers[row.frame_id]
        if first[number] == row.frame_id:
            found[number].append(_box(row.label, (row.x, row.y, row.width, row.height)))
    assert set(found) == set(range(FRAMES))
    assert {number: sorted(boxes) for number, boxes in found.items()} == expected()
    if kind != "producer":
        books = lake.books(from_day=days[0], to_day=days[-1])
        books = books[books.received.notna()]
        assert list(books.difference) == [0] * len(books)
        assert books.announced.sum() == books.in_ledger.sum() >= FRAMES
        assert books.failed.sum() == 0
