"""A scene as a clip: encoded video packets that an RTSP server plays in a loop, with a number in each picture.

The number in the upper left corner survives lossy compression: sixteen bits and four check bits, each a cell of 12x8
pixels, white for 1 and black for 0. So a decoded frame can be compared with its own truth.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2

from imgpipeline.sources.simulator.drawing import Image
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import Truth
from imgpipeline.sources.simulator.writer import object_to_json
from imgpipeline.vision.annotate import encode_jpeg

CODES = 2**16
"""Numbers restart at 0 after this many."""
_CELL_W, _CELL_H, _BITS = 12, 8, 20


def numbered_frames(scene: Scene) -> Iterator[tuple[Image, list[Truth]]]:
    """Yields each picture of a scene with its number in the corner, and its truth."""
    for number in range(len(scene)):
        pixels, objects = scene.frame(number)
        yield draw_number(pixels, number), objects


def write_clip(pictures: Iterable[Image], path: Path, *, codec: str, fps: float) -> int:
    """Writes a clip: for each packet a flag (key frame), the length, and the bytes.

    Args:
        pictures: uint8 [height, width, 3] BGR, with even sides; the size may change between pictures.
        codec: `h264` or `mjpeg`. H.264 has one key frame per second, and one wherever the size changes.
        fps: Frames per second, > 0.
    """
    packets = _jpegs(pictures) if codec == "mjpeg" else _h264(pictures, fps)
    count = 0
    with path.open("wb") as file:
        for is_key, data in packets:
            file.write(struct.pack(">?I", is_key, len(data)) + data)
            count += 1
    return count


def write_scene_clip(scene: Scene, folder: Path, *, name: str, codec: str, fps: float) -> Path:
    """Writes the clip of a scene as `{name}.clip` and its truth as `{name}.truth.jsonl`, and returns the clip's path.

    A line of the truth is `{"number", "objects"}` with the number in the picture's corner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, truths = [], []
    for number, (picture, objects) in enumerate(numbered_frames(scene)):
        pictures.append(picture)
        truths.append(json.dumps({"number": number, "objects": list(map(object_to_json, objects))}) + "\n")
    path = folder / f"{name}.clip"
    write_clip(pictures, path, codec=codec, fps=fps)
    (folder / f"{name}.truth.jsonl").write_text("".join(truths), encoding="utf-8")
    return path


def _jpegs(pictures: Iterable[Image]) -> Iterator[tuple[bool, bytes]]:
    return ((True, encode_jpeg(picture)) for picture in pictures)


def _h264(pictures: Iterable[Image], fps: float) -> Iterator[tuple[bool, bytes]]:
    encoder: av.VideoCodecContext | None = None
    for number, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        if encoder is None or (encoder.width, encoder.height) != (width, height):
            encoder = _encoder(width, height, fps)
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts = number
        yield from ((bool(packet.is_keyframe), bytes(packet)) for packet in encoder.encode(frame))


def _encoder(width: int, height: int, fps: float) -> av.VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = Fraction(fps).limit_denominator(1000)
    encoder.time_base = 1 / encoder.framerate
    encoder.gop_size = max(1, round(fps))
    # One slice per picture and no delay: each picture is one packet, which RTP packers do not split.
    one_slice = "threads=1:sliced-threads=0:repeat-headers=1:scenecut=0"
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "20", "x264-params": one_slice}
    return encoder


def draw_number(image: Image, number: int) -> Image:
    """Returns a copy of [height, width, 3] uint8 BGR pixels with the number in the corner."""
    marked = image.copy()
    code = _with_check(number % CODES)
    for bit in range(_BITS):
        shade = 255 if code >> bit & 1 else 0
        left = bit * _CELL_W
        cv2.rectangle(marked, (left, 0), (left + _CELL_W - 1, _CELL_H - 1), (shade,) * 3, -1)
    return marked


def read_number(image: Image) -> int | None:
    """Returns the number in the corner of a picture; None if it cannot be read."""
    if image.shape[0] < _CELL_H or image.shape[1] < _BITS * _CELL_W:
        return None
    strip = image[2 : _CELL_H - 2, : _BITS * _CELL_W].mean(axis=(0, 2))
    cells = strip.reshape(_BITS, _CELL_W)[:, 3:-3].mean(axis=1)
    code = sum(int(cell > 127) << bit for bit, cell in enumerate(cells))
    number = code % CODES
    return number if _with_check(number) == code else None


def _with_check(number: int) -> int:
    check = sum(number >> shift & 15 for shift in (0, 4, 8, 12)) ^ 0b1010
    return number | (check & 15) << 16
