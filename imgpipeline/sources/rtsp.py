"""A camera that streams by RTSP, as a live source: a child process reads it and is restarted if it fails or stalls.

    publish(settings, RtspSource("gate", "rtsp://camera.local/stream1", fps=5))

The time of a frame is the camera's own, by its RTCP sender reports (RFC 3550, 6.4.1). Until the first report, and for
cameras that send none, it is the time at which the frame was received. Reading and decoding are in `rtsp_child`.
"""

import contextlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from time import monotonic
from typing import Any, Self

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.settings import Clock, utc_now
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled, SourceKind, StatusChange
from imgpipeline.sources.rtsp_address import read_address
from imgpipeline.sources.rtsp_messages import MessageReader

LOG = logging.getLogger(__name__)
_START_LIMIT_S = 60.0
"""How long a process may take to load its libraries on a busy machine."""
_LOOK_S = 0.2
_END_S = 3.0


@dataclass(frozen=True, slots=True)
class RtspTiming:
    """Limits and pauses of reading a camera."""

    open_timeout_s: float = 10.0
    """How long connecting may take."""
    read_timeout_s: float = 5.0
    """How long the camera may be silent before the connection is given up."""
    first_pause_s: float = 1.0
    """Pause before the first attempt to reconnect; each further one doubles it."""
    longest_pause_s: float = 60.0
    """The longest pause between two attempts."""
    queue_frames: int = 16
    """Frames that may wait in the camera's process while this one is slow; beyond that the oldest are dropped."""
    clock_limit_s: float = 5.0
    """If the camera's clock is off by more than this, a notice and each frame say so."""


@dataclass(slots=True)
class RtspState:
    """How a camera is read at the moment; written by the thread that captures."""

    online: bool = False
    """Whether frames come."""
    reason: str = ""
    """Why it is offline."""
    codec: str = ""
    """Name of the video codec."""
    size: str = ""
    """Width and height of the last decoded frame in pixels."""
    clock: ClockSource | None = None
    """Which clock the last frame had."""
    clock_offset_s: float | None = None
    """How far the camera's clock is ahead of this machine's; negative: behind. Includes the frame's transmission."""
    attempts: int = 0
    """Connection attempts so far."""
    pid: int | None = None
    """The process that reads it."""


class RtspSource:
    """A camera; a source of `publish`."""

    kind = SourceKind.LIVE

    def __init__(
        self,
        name: str,
        url: str,
        *,
        credentials: str | None = None,
        fps: float | None = None,
        stall_s: float = 10.0,
        timing: RtspTiming | None = None,
        clock: Clock = utc_now,
        rng: random.Random | None = None,
    ) -> None:
        """Names a camera; nothing is opened yet.

        Args:
            name: The source.
            url: Where it streams; a user and password in it are used and shown nowhere.
            credentials: `user:password`, instead of those in the URL.
            fps: Frames a second at most; others are gated with the reason `frame_rate`. None: all.
            stall_s: The process that reads the camera is killed after this long without a frame.
            timing: Limits and pauses; None: the defaults.
            clock: Tells the time.
            rng: Spreads the attempts to reconnect of many cameras.

        Raises:
            UsageError: The URL is not an RTSP URL.
            ConfigurationError: The credentials are not `user:password`.
        """
        self.name = name
        self.address = read_address(url, credentials)
        self.fps = fps
        self.stall_s = stall_s
        self.timing = timing or RtspTiming()
        self.now = RtspState()
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreads attempts, keeps no secret
        self._number = 0
        self._said_offset_s = 0.0

    def capture(self, stop: Event) -> Iterator[Captured]:
        """Yields frames until `stop` is set, and connects again whenever the camera fails.

        A frame whose clock is off by more than the limit has the attribute `clock_offset_s`.
        """
        failures, told = 0, ""
        while not stop.is_set():
            began, reason = monotonic(), ""
            self.now.attempts += 1
            with _Child(self) as child:
                self.now.pid = child.pid
                for item in child.read(stop):
                    if isinstance(item, str):
                        reason = item
                    else:
                        yield from self._captured(*item)
            if stop.is_set():
                return
            was_online = self.now.online
            failures = 1 if was_online and monotonic() - began > self.stall_s else failures + 1
            self.now.online, self.now.reason, self.now.pid = False, reason, None
            if was_online or told != reason:
                told = reason
                LOG.warning("%s is offline: %s", self.name, reason)
                yield StatusChange(online=False, reason=reason, at=self._clock())
            stop.wait(pause_s(failures, self.timing, self._rng))

    def _captured(self, header: dict[str, Any], data: bytes) -> Iterator[Captured]:
        if header["kind"] == "opened":
            self.now.codec, self.now.size = header["codec"], f"{header['width']}x{header['height']}"
        elif header["kind"] == "lost":
            yield Lost(header["reason"], header["count"], Settled(header["how"]))
        elif header["kind"] == "frame":
            yield from self._frame(header, data)

    def _frame(self, header: dict[str, Any], data: bytes) -> Iterator[Captured]:
        now, received = self.now, datetime.fromtimestamp(header["received"], UTC)
        if not now.online:
            now.online, now.reason = True, ""
            LOG.info("%s is online: %s, %s", self.name, self.address.shown, now.codec)
            yield StatusChange(online=True, reason=f"{self.address.shown}: {now.codec}", at=received)
        sent = _time(header["sent"])
        offset_s = None if sent is None else (sent - received).total_seconds()
        yield from self._tell_clock(offset_s, received)
        now.clock_offset_s, now.clock = offset_s, ClockSource.RECEIVER if sent is None else ClockSource.RTCP
        now.size = f"{header['width']}x{header['height']}" if "width" in header else now.size
        is_off = offset_s is not None and abs(offset_s) > self.timing.clock_limit_s
        yield CapturedFrame(
            sent or received,
            now.clock,
            data=data,
            number=self._number,
            received=received,
            attributes={"clock_offset_s": round(offset_s or 0.0, 3)} if is_off else {},
        )
        self._number += 1

    def _tell_clock(self, offset_s: float | None, at: datetime) -> Iterator[StatusChange]:
        """Reports that the camera's clock has moved by more than the limit since the last report."""
        limit_s = self.timing.clock_limit_s
        if offset_s is None or abs(offset_s - self._said_offset_s) <= limit_s:
            return
        self._said_offset_s = offset_s
        off = f"clock is {abs(offset_s):,.1f} s {'ahead of' if offset_s > 0 else 'behind'} this machine's"
        yield StatusChange(online=True, reason="clock is right again" if abs(offset_s) <= limit_s else off, at=at)


def pause_s(failures: int, timing: RtspTiming, rng: random.Random) -> float:
    """Returns how long to wait after this many failures in a row: doubling, spread over its upper half."""
    longest = min(timing.first_pause_s * 2.0 ** min(failures - 1, 30), timing.longest_pause_s)
    return longest * rng.uniform(0.5, 1.0)


def _time(unix_s: float | None) -> datetime | None:
    """Returns a time of the camera; None if there is none, or if it is outside the range of dates."""
    try:
        return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, ValueError, OSError):
        return None


class _Child:
    """The process that reads one camera, from start to end."""

    def __init__(self, camera: RtspSource) -> None:
        self._stall_s, self._open_timeout_s = camera.stall_s, camera.timing.open_timeout_s
        self._plan = {
            "name": camera.name,
            "url": camera.address.secret,
            "fps": camera.fps,
            "open_timeout_s": camera.timing.open_timeout_s,
            "read_timeout_s": camera.timing.read_timeout_s,
            "queue_frames": camera.timing.queue_frames,
        }
        self._process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "imgpipeline.sources.rtsp_child"]
        single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - this very package
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # FFmpeg's messages may hold the URL
            env={**os.environ, **single},
            start_new_session=True,  # Ctrl-C ends the parent, which ends its children in order
        )
        with contextlib.suppress(OSError):
            self._stdin().write(json.dumps(self._plan).encode() + b"\n")
            self._stdin().flush()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._stdin().close()
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def read(self, stop: Event) -> Iterator[tuple[dict[str, Any], bytes] | str]:
        """Yields messages and finally the reason for the end; after `stop`, what the process still holds."""
        if self._process.stdout is None:
            raise RuntimeError("the process has no pipe")
        reader = MessageReader(self._process.stdout.fileno())
        silent_until, asked_to_end = monotonic() + _START_LIMIT_S, False
        while monotonic() < silent_until:
            if stop.is_set() and not asked_to_end:
                asked_to_end, silent_until = True, min(silent_until, monotonic() + _END_S)
                self._stdin().close()
            for header, data in reader.read(_LOOK_S):
                if header["kind"] == "ended":
                    yield header["reason"]
                    return
                if not asked_to_end and _is_alive(header):
                    silent_until = self._limit_after(header)
                yield header, data
            if reader.ended:
                yield self._exit_reason()
                return
        yield f"no frame for {self._stall_s:g} s"

    def _limit_after(self, header: dict[str, Any]) -> float:
        opening = header["kind"] == "started"
        return monotonic() + self._stall_s + (2 * self._open_timeout_s if opening else 0.0)

    def _exit_reason(self) -> str:
        status = self._process.wait()
        if status < 0:
            return f"the process that reads the camera was ended by {signal.Signals(-status).name}"
        return f"the process that reads the camera ended with status {status}"

    def _stdin(self) -> Any:
        return self._process.stdin


def _is_alive(header: dict[str, Any]) -> bool:
    """Whether a message shows that the camera delivers frames; frames that cannot be decoded do not."""
    return bool(header["kind"] != "lost" or header["how"] != Settled.FAILED)
