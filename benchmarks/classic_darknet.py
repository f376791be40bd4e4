"""The classic consumer of YOLOv4-tiny: OpenCV 4's own importer of Darknet's files, one message at a time.

Runs in an environment with OpenCV 4, the last one that reads these files, and takes kafka-python and boto3 from the
packages that its task names. Imports nothing of imgpipeline. As `classic_consumer`, it is that loop's honest best:
connections are kept, and the arithmetic behind the network is vectorised.
"""

import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

_SIDE = 416
_CONFIDENCE, _NMS = 0.5, 0.4


def main(task: dict[str, Any]) -> dict[str, float]:
    """Consumes some messages and returns how fast that was."""
    sys.path.append(task["packages"])  # behind this environment's own, which has OpenCV 4
    import boto3  # noqa: PLC0415 - found by the line before
    from botocore.config import Config  # noqa: PLC0415 - as above
    from kafka import KafkaConsumer  # noqa: PLC0415 - as above

    options = Config(
        tcp_keepalive=True, request_checksum_calculation="when_required", response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )  # fmt: skip
    s3 = boto3.client("s3", config=options, **task["s3"])
    network = cv2.dnn.readNetFromDarknet(task["cfg"], task["weights"])
    names = network.getUnconnectedOutLayersNames()
    detect(network, names, np.zeros((_SIDE, _SIDE, 3), np.uint8))  # the first call plans the network
    consumer = KafkaConsumer(task["topic"], enable_auto_commit=False, auto_offset_reset="earliest", **task["kafka"])
    began = cpu = 0.0
    found, frames = 0, int(task["frames"])
    for number, record in enumerate(consumer):
        if number == 0:
            began, cpu = time.perf_counter(), time.process_time()
        message = json.loads(record.value)
        bucket, _, key = message["image_path"].removeprefix("s3://").partition("/")
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        detections = detect(network, names, picture)
        found += len(detections)
        document = json.dumps({**message, "offset": record.offset, "detections": detections}).encode()
        s3.put_object(
            Bucket=urlsplit(task["store"]).netloc, Key=f"classic/{task['run']}/{record.offset}.json", Body=document
        )
        consumer.commit()
        if number + 1 == frames:
            break
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    consumer.close(autocommit=False)
    return {"frames_per_s": frames / seconds, "cpu_ms_a_frame": 1000 * cpu_s / frames,
            "detections_a_frame": found / frames}  # fmt: skip


def detect(network: Any, names: Any, picture: Any) -> list[dict[str, Any]]:
    """Returns the objects in a picture: label's number, confidence, box in pixels."""
    height, width = picture.shape[:2]
    network.setInput(cv2.dnn.blobFromImage(picture, 1 / 255, (_SIDE, _SIDE), swapRB=True, crop=False))
    rows = np.concatenate([output.reshape(-1, output.shape[-1]) for output in network.forward(names)])
    class_ids = rows[:, 5:].argmax(axis=1)
    scores = rows[np.arange(len(rows)), 5 + class_ids]
    above = scores > _CONFIDENCE
    rows, scores, class_ids = rows[above], scores[above], class_ids[above]
    if not len(rows):
        return []
    sizes = rows[:, 2:4] * (width, height)
    boxes = np.concatenate([rows[:, :2] * (width, height) - sizes / 2, sizes], axis=1)
    kept = np.array(cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), _CONFIDENCE, _NMS), int).reshape(-1)
    return [{"class_id": int(class_ids[i]), "confidence": float(scores[i]), "box": boxes[i].tolist()} for i in kept]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.load(sys.stdin))))
