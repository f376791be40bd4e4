"""A camera that streams by RTSP, as a live source: a child process reads it and is restarted if it fails or stalls.

    ingest_source(settings, RtspSource("gate", "rtsp://camera.local/stream1", fps=5))

The time of a frame is the camera's own, from its RTCP sender reports (RFC 3550, 6.4.1). Until the first report, and for
cameras that send none, it is the time at which the frame was received. `rtsp_child` reads and decodes.
"""

import contextlib
import json
import logging
import os
import random
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.contracts.times import Clock, back_off_s, utc_now
from imgpipeline.errors import ConfigurationError, TransientError, UsageError
from imgpipeline.settings import read_secret, read_variable
from imgpipeline.settings.sources import SourceSettings
from imgpipeline.sources.protocol import Captured, CapturedFrame, Lost, Settled, SourceKind, StatusChange

LOG = logging.getLogger(__name__)
_EXAMPLE = "rtsp://camera.local:554/stream1"
_PROBE_S = 6.0
_SETTLE_S = 1.0
"""The first frames arrive in a burst, because FFmpeg reads ahead to analyse the stream."""
_PROBE_LIMIT_S = 18.0
_CHUNK = 256 * 1024
_START_LIMIT_S = 60.0
"""How long a process may take to load its libraries on a busy machine."""
_LOOK_S = 0.2
_END_S = 3.0
Message = tuple[dict[str, Any], bytes]


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """Where a camera streams."""

    shown: str
    """Scheme, host, port and path, which may be logged and shown."""
    secret: str = field(repr=False)
    """The whole URL with user, password and query. Only the process that reads the camera gets it."""

    @property
    def path(self) -> str:
        """The path without its slashes; empty if there is none."""
        return urlsplit(self.shown).path.strip("/")


def camera_url(settings: SourceSettings) -> str:
    """Returns the camera that the settings name; raises UsageError if they name none."""
    if settings.rtsp_url is None:
        raise UsageError("No camera is named.", next_step=f"give its URL, such as {_EXAMPLE}, or set RTSP_URL")
    return settings.rtsp_url.get_secret_value()


def read_address(url: str, credentials: str | None = None) -> RtspAddress:
    """Reads the URL of a camera.

    Args:
        url: `rtsp://` or `rtsps://`, with or without `user:password@`.
        credentials: `user:password`, as plain text; replaces those in the URL.

    Raises:
        UsageError: It is not such a URL. The message does not show it, because it may hold a password.
        ConfigurationError: The credentials are not `user:password`.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("rtsp", "rtsps") or not host:
        raise UsageError(
            f"The camera's URL is not an RTSP URL, expected one such as {_EXAMPLE}.", next_step="correct the URL"
        )
    where = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if credentials is not None:
        user, colon, password = credentials.partition(":")
        if not colon or not user:
            raise ConfigurationError(
                f"The credentials of {parts.scheme}://{where} are not of the form user:password.",
                next_step="write the user, a colon and the password, nothing else",
            )
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    query = f"?{parts.query}" if parts.query else ""
    return RtspAddress(
        shown=f"{parts.scheme}://{where}{parts.path}", secret=f"{parts.scheme}://{login}{where}{parts.path}{query}"
    )


def read_credentials(variable: str | None, file: Path | None) -> str | None:
    """Returns `user:password` from a variable (`read_variable`) or a file's first line; None if neither is named.

    Raises:
        UsageError: Both are named.
        ConfigurationError: The variable is not set, or the file cannot be read or is empty.
    """
    if variable and file:
        raise UsageError("Credentials are given twice.", next_step="name a variable or a file, not both")
    if variable:
        value = read_variable(variable)
        if not value:
            raise ConfigurationError(
                f"The variable {variable} is not set, neither in the environment nor in .env; expected user:password.",
                next_step=f"export {variable}=user:password, or name a credentials file",
            )
        return value.strip()
    return read_secret(file).strip() if file else None


@dataclass(frozen=True, slots=True)
class RtspTiming:
    """Limits and pauses of reading a camera."""

    open_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    """How long the camera may be silent before the connection is closed."""
    first_pause_s: float = 1.0
    """Pause before the first attempt to reconnect; each further one doubles it."""
    longest_pause_s: float = 60.0
    queue_frames: int = 16
    """Frames that may wait in the camera's process while this one is slow; then the oldest are dropped."""
    clock_limit_s: float = 5.0
    """If the camera's clock is off by more than this, a notice and each frame report it."""


class MessageReader:
    """Reads what `rtsp_child.write_message` writes to a pipe, with a limit on each wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._buffer = bytearray()
        self.ended = False
        """Whether the other side has closed the pipe."""

    def read(self, limit_s: float) -> Iterator[Message]:
        """Yields the available messages, or waits up to `limit_s` for the next ones."""
        deadline = monotonic() + limit_s
        while not self.ended:
            found = self._take()
            if found:
                yield from found
                return
            left_s = deadline - monotonic()
            if left_s < 0 or not self._poll.poll(left_s * 1000):
                return
            data = os.read(self._descriptor, _CHUNK)
            self.ended = not data
            self._buffer += data

    def _take(self) -> list[Message]:
        found = []
        while (end := self._buffer.find(b"\n") + 1) > 0:
            header = json.loads(self._buffer[:end])
            stop = end + header["size_bytes"]
            if len(self._buffer) < stop:
                break
            found.append((header, bytes(self._buffer[end:stop])))
            del self._buffer[:stop]
        return found


class CameraProcess:
    """The process that reads one camera; a context manager."""

    def __init__(self, plan: dict[str, Any], *, stall_s: float) -> None:
        """Starts nothing yet.

        Args:
            plan: The options of `rtsp_child`: name, url, fps, timeouts and queue.
            stall_s: Longest time without a frame.
        """
        self._plan = plan
        self._stall_s = stall_s
        self._process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """The process id."""
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
            start_new_session=True,  # Ctrl-C ends only the parent, which then ends its children
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
        """Yields messages, after `stop` also those still in the process, and finally why the process ended."""
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
        return monotonic() + self._stall_s + (2 * float(self._plan["open_timeout_s"]) if opening else 0.0)

    def _exit_reason(self) -> str:
        status = self._process.wait()
        if status < 0:
            return f"the process that reads the camera was ended by {signal.Signals(-status).name}"
        return f"the process that reads the camera ended with status {status}"

    def _stdin(self) -> Any:
        return self._process.stdin


def _is_alive(header: dict[str, Any]) -> bool:
    """Returns whether a message shows that the camera delivers frames that can be decoded."""
    return bool(header["kind"] != "lost" or header["how"] != "failed")


@dataclass(slots=True)
class RtspState:
    """The current state of a camera; written by the thread that captures."""

    online: bool = False
    codec: str = ""
    size: str = ""
    clock: ClockSource | None = None
    clock_offset_s: float | None = None
    """Camera's clock minus this machine's; includes the transmission time of the frame."""
    attempts: int = 0
    pid: int | None = None


class RtspSource:
    """A camera."""

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
        """Opens nothing yet.

        Args:
            url: Where it streams. User and password in it are used, but never shown.
            credentials: `user:password`, instead of those in the URL.
            fps: Most frames per second; further frames are gated with the reason `frame_rate`. None: no limit.
            stall_s: The process that reads the camera is killed after this long without a frame.
            rng: Spreads the reconnection attempts of many cameras.

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
        """Yields frames until `stop` is set, and reconnects whenever the camera fails.

        A frame whose clock is off by more than the limit has the attribute `clock_offset_s`.
        """
        failures, reported = 0, ""
        while not stop.is_set():
            began, reason = monotonic(), ""
            self.now.attempts += 1
            with CameraProcess(self._plan(), stall_s=self.stall_s) as child:
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
            self.now.online, self.now.pid = False, None
            if was_online or reported != reason:
                reported = reason
                LOG.warning("%s is offline: %s", self.name, reason, extra={"source": self.name})
                yield StatusChange(online=False, reason=reason, at=self._clock())
            stop.wait(pause_s(failures, self.timing, self._rng))

    def _plan(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "url": self.address.secret,
            "fps": self.fps,
            "open_timeout_s": self.timing.open_timeout_s,
            "read_timeout_s": self.timing.read_timeout_s,
            "queue_frames": self.timing.queue_frames,
        }

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
            now.online = True
            LOG.info("%s is online: %s, %s", self.name, self.address.shown, now.codec, extra={"source": self.name})
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
    """Returns the pause after this many failures in a row: 50 to 100 % of a maximum, which doubles each time."""
    return back_off_s(failures, timing.first_pause_s, timing.longest_pause_s) * rng.uniform(0.5, 1.0)


def _time(unix_s: float | None) -> datetime | None:
    """Returns a time of the camera; None if there is none, or if no date can represent it."""
    try:
        return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def probe(url: str, credentials: str | None = None) -> str:
    """Tests a camera without storing anything: reads it for a few seconds, and returns what it sends.

    Raises:
        UsageError: The URL is not an RTSP URL.
        ConfigurationError: The credentials are not `user:password`.
        TransientError: It delivers no frames; the message says why.
    """
    stop, times = threading.Event(), []
    camera = RtspSource("doctor", url, credentials=credentials)
    timer = threading.Timer(_PROBE_LIMIT_S, stop.set)
    timer.daemon = True
    timer.start()
    reason = "no frame came"
    for item in camera.capture(stop):
        if isinstance(item, CapturedFrame):
            times.append(monotonic())
            if times[-1] - times[0] > _PROBE_S:
                stop.set()
        elif isinstance(item, StatusChange) and not item.online:
            reason = item.reason
            stop.set()
    timer.cancel()
    steady = [time for time in times if time > times[0] + _SETTLE_S]
    if len(steady) < 2:
        raise TransientError(
            f"{camera.address.shown}: {reason}.",
            next_step="check address, path, user and password of the camera, and whether a video player can show it",
        )
    now = camera.now
    fps = (len(steady) - 1) / (steady[-1] - steady[0])
    clock = "times of arrival, because it sends no RTCP reports"
    if now.clock_offset_s is not None:
        clock = f"its own clock, {now.clock_offset_s:+.1f} s from this machine's"
    return f"{fps:.1f} frames/s, {now.codec}, {now.size}, {clock}"
