"""The classic consumer, as it is written everywhere: one message at a time, from Kafka to a JSON document.

Get the object with boto3, decode it, run it through OpenCV's DNN module, put one JSON document, commit. It is that
loop's honest best: one session and its connections are kept, boto3's extra checksums are off, OpenCV has all its
threads, the arithmetic behind the network is vectorised, and the consumer fetches ahead as kafka-python does by
itself. It shares no code with imgpipeline, so that it cannot profit from it.

YOLOv4-tiny comes from Darknet's own files. OpenCV 4 is the last one that reads them, so this program also runs in an
environment with it, and takes kafka-python and boto3 from the packages that its task names.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

_SIDE = 416
_STRIDES = (8, 16, 32)
_CONFIDENCE, _NMS = 0.5, 0.4
_PAD = 114
Detect = Callable[[Any], list[dict[str, Any]]]


def main(task: dict[str, Any]) -> dict[str, float]:
    """Consumes some messages and returns how fast that was."""
    sys.path.append(task["packages"])  # after this environment's own, which may have OpenCV 4
    import boto3  # noqa: PLC0415 - found by the line before
    from botocore.config import Config  # noqa: PLC0415 - as above
    from kafka import KafkaConsumer  # noqa: PLC0415 - as above

    options = Config(
        tcp_keepalive=True, request_checksum_calculation="when_required", response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )  # fmt: skip
    s3 = boto3.client("s3", config=options, **task["s3"])
    detect = _darknet(task["cfg"], task["weights"]) if "cfg" in task else _yolox(task["model"])
    detect(np.zeros((_SIDE, _SIDE, 3), np.uint8))  # the first call plans the network
    consumer = KafkaConsumer(task["topic"], enable_auto_commit=False, auto_offset_reset="earliest", **task["kafka"])
    began = cpu = 0.0
    frames = int(task["frames"])
    for number, record in enumerate(consumer):
        if number == 0:
            began, cpu = time.perf_counter(), time.process_time()
        message = json.loads(record.value)
        bucket, _, key = message["image_path"].removeprefix("s3://").partition("/")
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        document = json.dumps({**message, "offset": record.offset, "detections": detect(picture)}).encode()
        target = f"classic/{task['run']}/{record.offset}.json"
        s3.put_object(Bucket=urlsplit(task["store"]).netloc, Key=target, Body=document)
        consumer.commit()
        if number + 1 == frames:
            break
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    consumer.close(autocommit=False)
    return {"frames_per_s": frames / seconds, "cpu_ms_a_frame": 1000 * cpu_s / frames}


def _yolox(path: str) -> Detect:
    network, grid = cv2.dnn.readNetFromONNX(path), _grid()

    def detect(picture: Any) -> list[dict[str, Any]]:
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
        return _strongest(np.concatenate([corners, sizes], axis=1), scores, class_ids)

    return detect


def _grid() -> Any:
    """Returns column, row and stride of each row of YOLOX's output."""
    parts = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: _SIDE // stride, : _SIDE // stride]
        parts.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    return np.concatenate(parts).astype(np.float32)


def _darknet(cfg: str, weights: str) -> Detect:
    network = cv2.dnn.readNetFromDarknet(cfg, weights)
    names = network.getUnconnectedOutLayersNames()

    def detect(picture: Any) -> list[dict[str, Any]]:
        height, width = picture.shape[:2]
        network.setInput(cv2.dnn.blobFromImage(picture, 1 / 255, (_SIDE, _SIDE), swapRB=True, crop=False))
        rows = np.concatenate([output.reshape(-1, output.shape[-1]) for output in network.forward(names)])
        class_ids = rows[:, 5:].argmax(axis=1)
        scores = rows[np.arange(len(rows)), 5 + class_ids]
        above = scores > _CONFIDENCE
        rows, scores, class_ids = rows[above], scores[above], class_ids[above]
        sizes = rows[:, 2:4] * (width, height)
        boxes = np.concatenate([rows[:, :2] * (width, height) - sizes / 2, sizes], axis=1)
        return _strongest(boxes, scores, class_ids)

    return detect


def _strongest(boxes: Any, scores: Any, class_ids: Any) -> list[dict[str, Any]]:
    """Returns the objects in a picture without overlaps: label's number, confidence, box in pixels."""
    if not len(boxes):
        return []
    found = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), class_ids.tolist(), _CONFIDENCE, _NMS)
    kept = np.array(found, int).reshape(-1)
    return [{"class_id": int(class_ids[i]), "confidence": float(scores[i]), "box": boxes[i].tolist()} for i in kept]


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"result": main(json.load(sys.stdin))}) + "\n")
