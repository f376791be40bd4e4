"""The classic OpenCV 4 recipe for YOLOv4-tiny, as an independent oracle. Runs in an environment of its own:

python oracle.py model.cfg model.weights picture.png out.npz confidence nms

Imports nothing of imgpipeline, on purpose. OpenCV 4 is the last one that reads Darknet's files itself.
"""

import re
import sys
from pathlib import Path

import cv2
import numpy as np


def main(cfg: str, weights: str, picture: str, out: str, confidence: str, nms: str) -> None:
    net = cv2.dnn.readNetFromDarknet(cfg, weights)
    image = cv2.imread(picture)
    height, width = image.shape[:2]
    net.setInput(cv2.dnn.blobFromImage(image, 1 / 255, _net_size(cfg), swapRB=True, crop=False))
    outputs = net.forward(net.getUnconnectedOutLayersNames())
    boxes, scores, class_ids = [], [], []
    for row in np.concatenate([output.reshape(-1, output.shape[-1]) for output in outputs]):
        class_id = int(np.argmax(row[5:]))
        if row[5 + class_id] > float(confidence):
            centre, box = row[:2] * (width, height), row[2:4] * (width, height)
            boxes.append([float(v) for v in (*(centre - box / 2), *box)])
            scores.append(float(row[5 + class_id]))
            class_ids.append(class_id)
    kept = np.array(cv2.dnn.NMSBoxes(boxes, scores, float(confidence), float(nms)), int).reshape(-1)
    np.savez(
        out,
        boxes=np.array(boxes).reshape(-1, 4)[kept],
        scores=np.array(scores)[kept],
        class_ids=np.array(class_ids, int)[kept],
        candidates=len(boxes),
        version=cv2.__version__,
        **{f"raw{index}": output for index, output in enumerate(outputs)},
    )


def _net_size(cfg: str) -> tuple[int, int]:
    text = Path(cfg).read_text(encoding="utf-8")
    width, height = (re.search(rf"^{name}\s*=\s*(\d+)", text, re.MULTILINE) for name in ("width", "height"))
    return int(width.group(1)), int(height.group(1))


if __name__ == "__main__":
    main(*sys.argv[1:])
