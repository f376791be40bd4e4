"""A detection run from Kafka and S3 to segments, against the bare loop over the same pictures in memory."""

import math
import threading
import time
from datetime import UTC, datetime, timedelta

from imgpipeline.contracts.keys import image_key
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.detect import LaneReport, follow_lane
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sources.simulator import Scene
from imgpipeline.stream.announce import Announcer
from imgpipeline.stream.lanes import Lane
from imgpipeline.vision.decode import ImageLimits, decode_image
from imgpipeline.vision.detector import load_detector
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Bucket

_PICTURES = 60
_STEADY_PER_S = 5


def measure_detection(kafka: KafkaBroker, bucket: S3Bucket, frames: int) -> dict[str, float]:
    """Returns frames a second of a run and of the bare loop, and their ratio."""
    kafka.create_topic("frames")
    settings = _settings(kafka, bucket)
    pictures = [Scene(1, frames=_PICTURES).jpeg(number)[0] for number in range(_PICTURES)]
    _announce(settings, pictures, frames)
    cpu_s = time.process_time()
    report = follow_lane(settings, Lane(0, 1), run_id="benchmark", report=_ignore)
    cpu_s = time.process_time() - cpu_s
    bare = _bare_loop(pictures, frames)
    return {
        "run: frames/s": report.frames_per_s,
        "bare loop, one thread: frames/s": bare,
        "run / bare loop": report.frames_per_s / bare,
        "run: CPU ms a frame": 1000 * cpu_s / frames,
        "run: segments": float(report.segments),
    }


def _settings(kafka: KafkaBroker, bucket: S3Bucket) -> Settings:
    return load_settings(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        store_url=bucket.url,
        s3_endpoint=bucket.endpoint,
        s3_access_key_id=bucket.access_key_id,
        s3_secret_access_key=bucket.secret_access_key,
        linger_s=1.0,
    )


def measure_latency(kafka: KafkaBroker, bucket: S3Bucket, seconds: float) -> dict[str, float]:
    """Returns the time from the Kafka record to its segment, while frames come steadily and a run follows."""
    kafka.create_topic("steady")
    settings = _settings(kafka, bucket).model_copy(update={"kafka_topic": "steady", "linger_s": 5.0})
    picture = Scene(1, frames=1).jpeg(0)[0]
    producer = threading.Thread(target=_announce_steadily, args=(settings, picture, round(seconds * _STEADY_PER_S)))
    producer.start()
    report = follow_lane(settings, Lane(0, 1), run_id="benchmark", report=_ignore)
    producer.join()
    return {
        f"record to segment at {_STEADY_PER_S} frames/s: median, s": report.latency_p50_s or math.nan,
        f"record to segment at {_STEADY_PER_S} frames/s: 95 %, s": report.latency_p95_s or math.nan,
    }


def _announce_steadily(settings: Settings, picture: bytes, frames: int) -> None:
    store, start = open_store(settings), datetime(2026, 1, 9, tzinfo=UTC)
    key = image_key("camera", start.date(), "steady.jpg")
    store.put(key, picture)
    with Announcer(settings) as announcer:
        for number in range(frames):
            announcer.announce(FrameMessage("camera", key, start + timedelta(seconds=number), frame_number=number))
            announcer.flush()
            time.sleep(1 / _STEADY_PER_S)


def _announce(settings: Settings, pictures: list[bytes], frames: int) -> None:
    store, start = open_store(settings), datetime(2026, 1, 9, tzinfo=UTC)
    with Announcer(settings) as announcer:
        for number in range(frames):
            time_ = start + timedelta(seconds=number)
            key = image_key("camera", start.date(), f"{number:06d}.jpg")
            store.put(key, pictures[number % len(pictures)])
            announcer.announce(FrameMessage("camera", key, time_, frame_number=number))


def _bare_loop(pictures: list[bytes], frames: int) -> float:
    detector = load_detector("demo")
    limits = ImageLimits(10**8, 10**8)
    began_s = time.perf_counter()
    for number in range(frames):
        detector.detect(decode_image(pictures[number % len(pictures)], limits).pixels)
    return frames / (time.perf_counter() - began_s)


def _ignore(report: LaneReport) -> None:
    """Takes no notice of reports: nobody watches a benchmark."""
