"""A video file as a source: frames are taken out of it, stored as JPEG and announced in Kafka.

Owns reading the file and the time of each frame. It promises that the same video ingested again announces the same
frames: a frame is named by source, time and number in the video, and its image is not overwritten.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from imgpipeline.contracts.keys import image_key
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import day_of
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.stream.announce import Announcer
from imgpipeline.vision.decoder_messages import decoder_messages_held

_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame of a video."""

    number: int
    """Number in the video, from 0."""
    offset_s: float
    """Seconds from the beginning of the video."""
    pixels: np.ndarray
    """uint8 [height, width, 3], BGR."""


def read_frames(path: Path, *, every_s: float) -> Iterator[VideoFrame]:
    """Yields frames of a video.

    Args:
        path: The file, in any format that FFmpeg reads.
        every_s: Least distance between two frames in seconds; 0 takes all.

    Yields:
        Frames in their order; the first one always.

    Raises:
        ConfigurationError: There is no such file, or it is no video.
    """
    if not path.is_file():
        raise ConfigurationError(f"There is no video {path}.", next_step="name a video file")
    number = 0
    with decoder_messages_held():
        for number, frame in enumerate(_frames(cv2.VideoCapture(str(path)), every_s), 1):  # noqa: B007 - counts
            if frame:
                yield frame
    if number == 0:
        raise ConfigurationError(f"{path} cannot be read as a video.", next_step="name a file that FFmpeg can read")


def _frames(capture: cv2.VideoCapture, every_s: float) -> Iterator[VideoFrame | None]:
    """Yields each frame, or None in the place of one that is not wanted or damaged, and closes the video."""
    try:
        number, next_s = 0, 0.0
        while capture.grab():
            # Some formats tell no times; then the nominal rate does, or 25 frames a second.
            rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
            offset_s = max(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, 0.0) or number / rate
            found = None
            if offset_s >= next_s - 1e-6:
                done, pixels = capture.retrieve()
                found = VideoFrame(number, offset_s, np.asarray(pixels, np.uint8)) if done else None
                next_s = offset_s + every_s
            yield found
            number += 1
    finally:
        capture.release()


def ingest_video(
    settings: Settings,
    path: Path,
    source: str,
    *,
    every_s: float = 0.5,
    start: datetime | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Stores and announces frames of a video.

    Args:
        settings: Name store and topic.
        path: The video file.
        source: Under which the frames are announced.
        every_s: Least distance between two frames in seconds.
        start: Time of the first frame; None: the file's modification time.
        progress: Called with the number of announced frames.

    Returns:
        How many frames were announced.

    Raises:
        ConfigurationError: There is no such video, or a setting is wrong.
        TransientError: Store or broker do not answer; ingesting again makes up for what is missing.
    """
    store, announced = open_store(settings), 0
    frames = read_frames(path, every_s=every_s)
    with Announcer(settings) as announcer:
        for frame in frames:
            began = start or datetime.fromtimestamp(path.stat().st_mtime, UTC)
            time = began.astimezone(UTC) + timedelta(seconds=round(frame.offset_s, 3))
            data = _encode(frame)
            name = f"{path.stem}-{frame.number:08d}.jpg".encode("utf-8", "replace").decode()
            key = image_key(source, day_of(time), name)
            store.create(key, data)
            height, width = frame.pixels.shape[:2]
            announcer.announce(
                FrameMessage(
                    source=source,
                    image_path=key,
                    timestamp=time,
                    frame_number=frame.number,
                    width=width,
                    height=height,
                    attributes={
                        "file": name,
                        "video": path.name,
                        "offset_s": round(frame.offset_s, 3),
                        "jpeg": _digest(data),
                    },
                )
            )
            announced += 1
            if progress:
                progress(announced)
    return announced


def _encode(frame: VideoFrame) -> bytes:
    done, data = cv2.imencode(".jpg", frame.pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise PermanentError(f"Frame {frame.number} of the video cannot be written as JPEG.")
    return data.tobytes()


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:16]
