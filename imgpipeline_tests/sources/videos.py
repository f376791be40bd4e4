"""Writes small videos for tests; the brightness of a frame is ten times its number."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(
    path: Path,
    *,
    times_ms: Sequence[int] | None = None,
    rotation: int = 0,
    created: str | None = None,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a video whose frames have these times; without times, two seconds at 10 frames per second."""
    times_ms = range(0, 2000, 100) if times_ms is None else times_ms
    with av.open(str(path), "w", options=options or {}) as container:
        if created:
            container.metadata["creation_time"] = created
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, time_ms in enumerate(times_ms):
            pixels = np.full((size[1], size[0], 3), min(number * 10, 250), np.uint8)
            pixels[: size[1] // 4, : size[0] // 4] = 255  # the upper left corner is bright
            frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
