"""Tests a camera for a few seconds without storing anything: whether it answers, what it sends, and by which clock."""

import threading
from dataclasses import dataclass
from time import monotonic

from imgpipeline.errors import TransientError
from imgpipeline.sources.protocol import CapturedFrame, StatusChange
from imgpipeline.sources.rtsp import RtspSource

_WATCH_S = 6.0
_SETTLE_S = 1.0
"""The first frames come in a burst: those that FFmpeg read to find out what the stream is."""
_PATIENCE_S = 18.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What a camera sends."""

    fps: float
    """Frames a second."""
    codec: str
    """Name of its video codec."""
    size: str
    """Width and height in pixels."""
    clock: str
    """`rtcp`: the camera's own; `receiver`: it sends no RTCP sender reports."""
    clock_offset_s: float | None
    """How far its clock is ahead of this machine's; None if it sends none."""

    def __str__(self) -> str:
        clock = "times of arrival, because it sends no RTCP reports"
        if self.clock_offset_s is not None:
            clock = f"its own clock, {self.clock_offset_s:+.1f} s from this machine's"
        return f"{self.fps:.1f} frames/s, {self.codec}, {self.size}, {clock}"


def probe(url: str, credentials: str | None = None, *, watch_s: float = _WATCH_S) -> Probe:
    """Reads a camera for `watch_s` seconds after its first frame.

    Raises:
        UsageError: The URL is not an RTSP URL.
        ConfigurationError: The credentials are not `user:password`.
        TransientError: It delivers no frames; the message says why.
    """
    stop, times = threading.Event(), []
    camera = RtspSource("doctor", url, credentials=credentials)
    timer = threading.Timer(_PATIENCE_S, stop.set)
    timer.daemon = True
    timer.start()
    reason = "no frame came"
    for item in camera.capture(stop):
        if isinstance(item, CapturedFrame):
            times.append(monotonic())
            if times[-1] - times[0] > watch_s:
                stop.set()
        elif isinstance(item, StatusChange) and not item.online:
            reason = item.reason
            stop.set()
    timer.cancel()
    steady = [time for time in times if time > times[0] + _SETTLE_S]
    if len(steady) < 2:
        raise TransientError(
            f"{camera.address.shown}: {reason}.",
            next_step="check address, path, user and password of the camera, and whether a player can show it",
        )
    now = camera.now
    fps = (len(steady) - 1) / (steady[-1] - steady[0])
    return Probe(fps, now.codec, now.size, str(now.clock), now.clock_offset_s)
