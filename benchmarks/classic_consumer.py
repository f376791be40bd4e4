"""The classic consumer, as it is written everywhere: one message at a time, from Kafka to a JSON document.

Get the object with boto3, decode it, run it through OpenCV's DNN module, put one JSON document, commit. It is that
loop's honest best: one session and its connections are kept, boto3's extra checksums are off, OpenCV has all its
threads, the arithmetic behind the network is vectorised, and the consumer fetches ahead as kafka-python does by
itself. It shares no code with imgpipeline but the connection's settings, so that it cannot profit from it.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import boto3
import cv2
import numpy as np
import numpy.typing as npt
from botocore.config import Config
from kafka import KafkaConsumer

from imgpipeline.settings import Settings

_SIDE = 416
_STRIDES = (8, 16, 32)
_CONFIDENCE = 0.5
_NMS = 0.4
_PAD = 114

Floats = npt.NDArray[np.float32]


def consume_classically(settings: Settings, frames: int, mark: Callable[[], None]) -> int:
    """Consumes some messages of the topic from its beginning.

    Args:
        settings: Where everything is; `model` is the path of YOLOX-nano.
        frames: How many messages.
        mark: Called at the first message and after each commit.

    Returns:
        How many objects were found.
    """
    s3, bucket = _open_s3(settings), urlsplit(settings.store_url).netloc
    network, grid = cv2.dnn.readNetFromONNX(settings.model), _grid()
    network.setInput(np.zeros((1, 3, _SIDE, _SIDE), np.float32))
    network.forward()  # the first call plans the network
    consumer = KafkaConsumer(
        settings.kafka_topic,
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=f"{settings.kafka_group}-classic",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    found = 0
    try:
        for number, record in enumerate(consumer, 1):
            if number == 1:
                mark()
            message = json.loads(record.value)
            image_bucket, _, key = message["image_path"].removeprefix("s3://").partition("/")
            body = s3.get_object(Bucket=image_bucket, Key=key)["Body"].read()
            picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
            if picture is None:
                raise ValueError(f"{key} cannot be decoded")
            detections = _detect(network, grid, picture)
            found += len(detections)
            document = {**message, "offset": record.offset, "width": picture.shape[1], "height": picture.shape[0]}
            s3.put_object(
                Bucket=bucket,
                Key=f"classic/{settings.kafka_group}/{record.partition}/{record.offset}.json",
                Body=json.dumps({**document, "detections": detections}).encode(),
            )
            consumer.commit()
            mark()
            if number == frames:
                return found
    finally:
        consumer.close(autocommit=False)
    raise RuntimeError(f"the topic ended before {frames} messages")


def _open_s3(settings: Settings) -> Any:
    if settings.s3_access_key_id is None or settings.s3_secret_access_key is None:
        raise ValueError("the classic consumer needs the keys of the store")
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.s3_access_key_id.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        region_name=settings.s3_region,
        config=Config(
            tcp_keepalive=True,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


def _detect(network: cv2.dnn.Net, grid: Floats, picture: cv2.typing.MatLike) -> list[dict[str, Any]]:
    """Returns the objects in a picture: label's number, confidence, box in pixels."""
    height, width = picture.shape[:2]
    ratio = min(_SIDE / width, _SIDE / height)
    size = (int(width * ratio), int(height * ratio))
    canvas = np.full((_SIDE, _SIDE, 3), _PAD, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    network.setInput(cv2.dnn.blobFromImage(canvas))
    rows = network.forward()[0]
    likely = rows[:, 4] > _CONFIDENCE
    rows, places = rows[likely], grid[likely]
    class_ids = rows[:, 5:].argmax(axis=1) if len(rows) else np.zeros(0, np.int64)
    scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + class_ids]
    sizes = np.exp(rows[:, 2:4]) * places[:, 2:] / ratio
    corners = (rows[:, :2] + places[:, :2]) * places[:, 2:] / ratio - sizes / 2
    boxes = np.concatenate([corners, sizes], axis=1)
    if not len(boxes):
        return []
    kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), class_ids.tolist(), _CONFIDENCE, _NMS)
    return [{"class_id": int(class_ids[i]), "confidence": float(scores[i]), "box": boxes[i].tolist()} for i in kept]


def _grid() -> Floats:
    """Returns column, row and stride of each row of the output."""
    parts = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: _SIDE // stride, : _SIDE // stride]
        parts.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(parts).astype(np.float32)
