"""Small programs of a classic video pipeline: data generator, detector, tracker client and statistics.

They know Kafka, JSON and one folder for frames, `{video_id}_{frame_id}.jpg`, and nothing of this project. Each program
repeats the names of videos and frames as the one before it gave them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from kafka import KafkaConsumer, KafkaProducer, TopicPartition


class FrameStore(Protocol):
    """The shared folder of frames."""

    def put(self, key: str, data: bytes) -> object: ...

    def get(self, key: str) -> bytes: ...


def image_name(message: dict[str, Any]) -> str:
    """Return the name of a frame's image, as each program of the pipeline makes it."""
    return f"{message['video_id']}_{message['frame_id']}.jpg"


@dataclass
class DataGenerator:
    """Writes the frames of a video to the folder, and the same message to each topic, without a key."""

    broker: str
    frames: FrameStore
    topics: tuple[str, ...] = ("car-frames", "person-frames")
    sent: list[dict[str, str]] = field(default_factory=list)

    def start(self, video_id: str, images: Iterable[bytes], first: datetime) -> None:
        producer = KafkaProducer(bootstrap_servers=self.broker)
        for number, image in enumerate(images):
            at = (first + timedelta(seconds=number / 10)).astimezone(UTC)
            message = {"frame_id": f"frame_{number:05d}", "timestamp": at.isoformat(), "video_id": video_id}
            self.frames.put(image_name(message), image)
            for topic in self.topics:
                producer.send(topic, json.dumps(message).encode("utf-8"))
            self.sent.append(message)
        producer.close()


def consume(broker: str, topic: str) -> list[Any]:
    """Return the records of a topic from its beginning to its end."""
    consumer = KafkaConsumer(bootstrap_servers=broker, isolation_level="read_committed", group_id=None)
    parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    consumer.assign(parts)
    consumer.seek_to_beginning()
    ends, records = consumer.end_offsets(parts), []
    while any(consumer.position(part) < ends[part] for part in parts):
        for found in consumer.poll(timeout_ms=200).values():
            records += found
    consumer.close()
    return records


def detector_reads(broker: str, topic: str, frames: FrameStore) -> list[tuple[dict[str, Any], bytes]]:
    """Return what a detector gets from a topic of frames: each message with its image."""
    found = []
    for record in consume(broker, topic):
        assert record.key is None
        message = json.loads(record.value.decode("utf-8"))
        assert set(message) == {"frame_id", "timestamp", "video_id"}
        assert datetime.fromisoformat(message["timestamp"]).utcoffset() == timedelta(0)
        found.append((message, frames.get(image_name(message))))
    return found


def tracker_reads(broker: str, topic: str) -> dict[tuple[str, str], list[list[float]]]:
    """Return what a tracker gets from a topic of detections: rows x1, y1, x2, y2, confidence by video and frame."""
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for record in consume(broker, topic):
        data = json.loads(record.value)
        name = (data["video_id"], data["frame_id"])
        assert name not in rows, "one message a frame"
        datetime.fromisoformat(data["timestamp"])
        rows[name] = []
        for found in data["detections"]:
            assert {type(value) for value in found["bbox"]} == {int}
            assert isinstance(found["label"], str)
            rows[name].append([*found["bbox"], found["confidence"]])
    return rows


def statistics_reads(broker: str, topic: str) -> list[tuple[str, str, list[int]]]:
    """Return what a statistics program gets from a topic of tracks: video, frame and the numbers of its tracks."""
    shown = []
    for record in consume(broker, topic):
        data = json.loads(record.value)
        for track in data["tracks"]:
            x1, y1, x2, y2 = track["bbox"]
            assert x1 < x2
            assert y1 < y2
            assert track["class_id"] == 0
        shown.append((data["video_id"], data["frame_id"], [track["track_id"] for track in data["tracks"]]))
    return shown
