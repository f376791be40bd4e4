"""Writes images with times as MP4 (H.264) or animated GIF; each image is shown until the time of the next one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import av
from av.filter import Graph
from av.packet import Packet
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from imgpipeline.vision.decode import Pixels

_Packet: TypeAlias = "Packet[VideoStream]"
SUFFIXES = (".mp4", ".gif")
"""Supported file suffixes."""
_LAST_S = 1.0
"""How long the last image is shown."""
_TICKS_PER_S = {".mp4": 1000, ".gif": 100}
_H264 = {"crf": "23", "preset": "veryfast", "bf": "0"}
"""Without B-frames, each image keeps its time and duration."""


@dataclass(frozen=True, slots=True)
class ClipImage:
    """One image of a clip."""

    at_s: float
    """Time at which it is shown, in seconds after the first image; never before the previous image."""
    pixels: Pixels
    """uint8 [height, width, 3], BGR; all images of a clip have the same size, with even sides."""


def write_clip_file(images: Iterable[ClipImage], path: Path) -> int:
    """Writes a clip, replacing an existing file, and returns the number of images.

    Args:
        images: In order of time, at least one; only one is in memory at a time.
        path: Ends in one of `SUFFIXES`. Times are rounded to 1 ms (MP4) or 10 ms (GIF).

    Raises:
        OSError: The file cannot be written.
    """
    is_gif = path.suffix == ".gif"
    ticks_per_s = _TICKS_PER_S[path.suffix]
    images = iter(images)
    first = next(images)
    height, width = first.pixels.shape[:2]
    options = {"final_delay": str(round(_LAST_S * ticks_per_s))} if is_gif else {"movflags": "+faststart"}
    count = 0
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("gif" if is_gif else "libx264", options={} if is_gif else _H264)
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8" if is_gif else "yuv420p"
        stream.codec_context.time_base = Fraction(1, ticks_per_s)
        frames = _frames(chain([first], images), ticks_per_s)
        packets = _encoded(stream, _with_palettes(frames, width, height) if is_gif else frames)
        for packet in packets if is_gif else _with_durations(packets, round(_LAST_S * ticks_per_s)):
            container.mux(packet)
            count += 1
    return count


def _frames(images: Iterable[ClipImage], ticks_per_s: int) -> Iterator[av.VideoFrame]:
    """Yields frames whose times increase by at least one tick, as the formats require."""
    last = -1
    for image in images:
        last = max(last + 1, round(image.at_s * ticks_per_s))
        frame = av.VideoFrame.from_ndarray(image.pixels, format="bgr24")
        frame.pts, frame.time_base = last, Fraction(1, ticks_per_s)
        yield frame


def _encoded(stream: VideoStream, frames: Iterable[av.VideoFrame]) -> Iterator[_Packet]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode()


def _with_durations(packets: Iterable[_Packet], last: int) -> Iterator[_Packet]:
    """Sets the durations, which the encoder does not know; otherwise players would not show the last image."""
    before: _Packet | None = None
    for packet in packets:
        if before is not None:
            before.duration = (packet.pts or 0) - (before.pts or 0)
            yield before
        before = packet
    if before is not None:
        before.duration = last
        yield before


def _with_palettes(frames: Iterable[av.VideoFrame], width: int, height: int) -> Iterator[av.VideoFrame]:
    """Yields frames with at most 256 colours, each with its own best palette."""
    graph = Graph()
    time_base = Fraction(1, _TICKS_PER_S[".gif"])
    source = graph.add_buffer(width=width, height=height, format=VideoFormat("bgr24"), time_base=time_base)
    both, make = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    use, sink = graph.add("paletteuse", "new=1"), graph.add("buffersink")
    source.link_to(both)
    both.link_to(make, 0, 0)
    both.link_to(use, 1, 0)
    make.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for frame in chain(frames, [None]):
        source.push(frame)
        while True:
            try:
                made = sink.pull()
            except (av.BlockingIOError, av.EOFError):
                break
            if isinstance(made, av.VideoFrame):
                yield made
