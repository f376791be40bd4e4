"""A video file as a source: its frames are stored as JPEG and announced with their own times.

`read_frames` reads chosen frames with their times, and reports what could not be read.

Source, time and number in the video identify a frame, so ingesting the same video again counts nothing twice. The
image's key contains time and content, so another video of the same name never replaces an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame as DecodedFrame
from av.video.stream import VideoStream

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import parse_time
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.image_files import Skipped
from imgpipeline.sources.protocol import (
    Captured,
    CapturedFrame,
    Lost,
    Settled,
    SourceKind,
    StatusChange,
    checked_source,
)
from imgpipeline.sources.rate import RatePicker

USUAL_RATE = 25.0
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames of a video are wanted; by default all. The first frame always is."""

    every: int = 1
    """Every Nth frame, at least 1."""
    rate: float | None = None
    """At most this many frames per second of the video; None: no limit."""
    count: int | None = None
    """At most this many frames, spread evenly over the video; None: no limit."""

    def of(self, frames: int | None) -> "ChosenFrames":
        """Returns the choice for a video with this many frames (None: unknown)."""
        spread = max(round(frames / self.count), 1) if self.count and frames else 1
        return ChosenFrames(self, frames, max(self.every, spread))


class ChosenFrames:
    """The choice for one video, which counts the frames taken so far."""

    def __init__(self, choice: FrameChoice, frames: int | None, every: int) -> None:
        """Starts with the first frame of a video."""
        self._choice = choice
        self._frames = frames
        self._every = every
        self._picker = RatePicker(choice.rate)
        self._taken = 0

    def takes(self, number: int, offset_s: float) -> bool:
        """Returns whether a frame is wanted. Call it once for each frame, in order."""
        if number % self._every or (self._choice.count is not None and self._taken >= self._choice.count):
            return False
        taken = self._picker.takes(offset_s)
        self._taken += taken
        return taken

    def missing_after(self, read: int, promised: int) -> int:
        """Returns how many wanted frames are missing from a video that promised more frames than were read."""
        if read >= promised:
            return 0
        if self._choice.rate and read:
            missing = round((promised - read) * self._taken / read)
        else:
            missing = len(range(-(-read // self._every) * self._every, promised, self._every))
        return missing if self._choice.count is None else min(missing, self._choice.count - self._taken)

    def expected(self, video_rate: float | None) -> int | None:
        """Returns how many frames will be taken; None: unknown."""
        if not self._frames:
            return None
        wanted = -(-self._frames // self._every)
        if self._choice.rate and video_rate:
            wanted = min(wanted, round(self._frames * self._choice.rate / video_rate) or 1)
        return min(wanted, self._choice.count) if self._choice.count is not None else wanted


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame of a video."""

    number: int
    """Number in the video, from 0; frames that were not taken count too."""
    offset_s: float
    """Seconds since the start of the video, by the container's timestamps."""
    pixels: np.ndarray
    """uint8 [height, width, 3], BGR, upright."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Length, frame rate and creation time of a video, from its container."""

    frames: int | None
    """How many frames it should have; None if unknown."""
    rate: float | None
    """Average frames per second; None if unknown."""
    created: datetime | None
    """When it was recorded, UTC; None if unknown."""
    duration_s: float
    """How long it is; 0 if unknown."""


def read_info(path: Path) -> VideoInfo:
    """Reads length, frame rate and creation time of a video from its container.

    Raises:
        ConfigurationError: There is no such file, or it is not a video.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        said = {**container.metadata, **stream.metadata}.get("creation_time")
        rate = float(stream.average_rate) if stream.average_rate else None
        return VideoInfo(stream.frames or None, rate, _created(said), _duration_s(container, stream))


def read_frames(path: Path, choice: FrameChoice = FrameChoice()) -> Iterator[VideoFrame | Lost]:
    """Yields the frames of a video.

    Yields:
        Frames in display order; wanted frames that are damaged (`decode`), and those that a cut off file lacks
        (`truncated`).

    Raises:
        ConfigurationError: There is no such file, it is not a video, or it has no frame.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        chosen = choice.of(stream.frames or (_count_packets(path) if choice.count else None))
        number, end_s, widest_s = 0, 0.0, 0.0
        for number, decoded in enumerate(_decoded(container, stream), 1):
            offset_s = _offset_s(stream, decoded, number - 1)
            widest_s, end_s = max(widest_s, offset_s - end_s), max(end_s, offset_s)
            if chosen.takes(number - 1, offset_s):
                yield (
                    VideoFrame(number - 1, offset_s, _upright(decoded))
                    if decoded
                    else Lost("decode", kind=Settled.FAILED)
                )
        if number == 0:
            raise _not_a_video(path)
        missing = chosen.missing_after(number, _frames_promised(container, stream, number, end_s, widest_s))
        if missing:
            yield Lost("truncated", missing, Settled.FAILED)


def _frames_promised(container: InputContainer, stream: VideoStream, read: int, end_s: float, widest_s: float) -> int:
    """Returns how many frames the container claims to have, or an estimate from its duration if it has no count.

    The last frame may be shown for a long time, so the duration counts only if it is far longer than the frames read.
    """
    duration_s = _duration_s(container, stream)
    rate = float(stream.average_rate or USUAL_RATE)
    if end_s + 1.5 / rate >= duration_s > 0:
        return read
    if stream.frames:
        return stream.frames
    is_cut_off = duration_s - end_s > max(1.0, 5 * widest_s)
    return read + round((duration_s - end_s) * rate) - 1 if is_cut_off else read


def _duration_s(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[DecodedFrame | None]:
    """Yields each frame, or None instead of a damaged one; ends where the file cannot be read any further."""
    packets = container.demux(stream)
    while True:
        frames: Sequence[DecodedFrame | None]
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            yield from stream.codec_context.decode(None)  # frames that are still in the decoder
            return
        if packet is None:
            return
        try:
            frames = [None] if packet.is_corrupt else packet.decode()
        except av.FFmpegError:
            frames = [None]
        yield from (None if frame is None or frame.is_corrupt else frame for frame in frames)


def _offset_s(stream: VideoStream, frame: DecodedFrame | None, number: int) -> float:
    if frame is None or frame.pts is None or stream.time_base is None:
        return round(number / float(stream.average_rate or USUAL_RATE), 3)
    return round(float((frame.pts - (stream.start_time or 0)) * stream.time_base), 3)


def _upright(frame: DecodedFrame) -> np.ndarray:
    pixels = frame.to_ndarray(format="bgr24")
    turn = _TURNS.get(frame.rotation % 360)
    return pixels if turn is None else np.asarray(cv2.rotate(pixels, turn), np.uint8)


def _opened(path: Path) -> InputContainer:
    if not path.is_file():
        raise ConfigurationError(f"There is no video {path}.", next_step="name a video file")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.FFmpegError as error:
        raise _not_a_video(path) from error
    if not container.streams.video:
        container.close()
        raise _not_a_video(path)
    return container


def _not_a_video(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be read as a video.",
        next_step="name a file that FFmpeg can read; an MP4 file that is cut off may lack its index",
    )


def _count_packets(path: Path) -> int:
    with _opened(path) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def _created(text: str | None) -> datetime | None:
    try:
        time = parse_time(text) if text else None
    except ValueError:
        return None
    return time if time and time.year > 1970 else None  # many recorders write the start of an epoch


class VideoSource:
    """The frames of one video file."""

    kind = SourceKind.FINITE

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        start: datetime | None = None,
        choice: FrameChoice = FrameChoice(),
        realtime: bool = False,
    ) -> None:
        """Opens the file to check that it is a video.

        Args:
            start: Time of the first frame; None: the creation time in the video, otherwise the file's modification
                time.

        Raises:
            ConfigurationError: There is no such file, or it is not a video.
            UsageError: The name of the source is not valid.
        """
        self.name = checked_source(name)
        self.path = path
        self.info = read_info(path)
        modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        self.start = (start or self.info.created or modified).astimezone(UTC)
        self._lost: list[Lost] = []
        self.end = self.start
        self._choice = choice
        self._realtime = realtime

    @property
    def following(self) -> datetime:
        """Start time of a video that follows this one; correct after this one was captured."""
        whole = self.start + timedelta(seconds=round(self.info.duration_s, 3))
        return max(whole, self.end + timedelta(milliseconds=1))

    @property
    def expected(self) -> int | None:
        """How many frames it will yield; None: unknown."""
        return self._choice.of(self.info.frames).expected(self.info.rate)

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be read so far."""
        damaged = sum(lost.count for lost in self._lost if lost.reason == "decode")
        reasons = [f"{counted(damaged, 'frame')} could not be decoded"] if damaged else []
        reasons += [
            f"the file ends {counted(lost.count, 'frame')} early" for lost in self._lost if lost.reason != "decode"
        ]
        return [Skipped(self.path.name, reason) for reason in reasons]

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields the chosen frames. Unreadable frames count as failed; a truncated file ends offline."""
        began = datetime.now(UTC)
        for read in read_frames(self.path, self._choice):
            if stop.is_set():
                return
            if isinstance(read, Lost):
                self._lost.append(read)
                yield replace(read, at=self.end)
                if read.reason == "truncated":
                    yield StatusChange(
                        online=False, reason=f"the file ends {counted(read.count, 'frame')} early", at=self.end
                    )
                continue
            self.end = self.start + timedelta(seconds=read.offset_s)
            if self._realtime:
                stop.wait((began + timedelta(seconds=read.offset_s) - datetime.now(UTC)).total_seconds())
            yield self._frame(read)

    def _frame(self, frame: VideoFrame) -> CapturedFrame:
        attributes = {"video": self.path.name.encode("utf-8", "replace").decode(), "offset_s": frame.offset_s}
        return CapturedFrame(
            self.start + timedelta(seconds=frame.offset_s),
            ClockSource.CONTAINER,
            pixels=frame.pixels,
            number=frame.number,
            attributes=attributes,
        )
