"""A simulated scene as a clip: encoded packets of video that an RTSP server plays over and over, and their truth."""

import json
import struct
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av

from imgpipeline.sources.simulator.frame_code import Image, draw_number
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import Truth
from imgpipeline.sources.simulator.writer import object_to_json
from imgpipeline.vision.annotate import encode_jpeg


def numbered_frames(scene: Scene) -> Iterator[tuple[Image, list[Truth]]]:
    """Yields the pictures of a scene, each with its number in the corner, and what is in them."""
    for number in range(len(scene)):
        pixels, objects = scene.frame(number)
        yield draw_number(pixels, number), objects


def write_clip(pictures: Iterable[Image], path: Path, *, codec: str, fps: float) -> int:
    """Writes a clip: of each packet a flag (key frame), the length, and the bytes.

    Args:
        pictures: uint8 [height, width, 3] BGR, with even sides; the size may change from one to the next.
        path: Where to; replaced.
        codec: `h264` or `mjpeg`. H.264 has a key frame a second, and wherever the size changes.
        fps: Frames a second, > 0.

    Returns:
        How many packets were written, one a picture.
    """
    packets = _jpegs(pictures) if codec == "mjpeg" else _h264(pictures, fps)
    count = 0
    with path.open("wb") as file:
        for is_key, data in packets:
            file.write(struct.pack(">?I", is_key, len(data)) + data)
            count += 1
    return count


def write_scene_clip(scene: Scene, folder: Path, *, name: str, codec: str, fps: float) -> Path:
    """Writes the clip of a scene as `{name}.clip` and what is in its frames as `{name}.truth.jsonl`.

    A line of the truth is `{"number", "objects"}`; the number is the one in the frame's corner.

    Returns:
        The clip.
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
    # One slice a picture and no delay: each picture is one packet, which RTP packers do not split.
    one_slice = "threads=1:sliced-threads=0:repeat-headers=1:scenecut=0"
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "20", "x264-params": one_slice}
    return encoder
