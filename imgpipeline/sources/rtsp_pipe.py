"""Starts the process that reads a camera, and exchanges messages with it: a JSON header and bytes.

This module imports only the standard library, because every camera's process loads it.
"""

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from threading import Event
from time import monotonic
from typing import Any, Self

_LENGTHS = struct.Struct(">II")
_CHUNK = 256 * 1024
_START_LIMIT_S = 60.0
"""How long a process may take to load its libraries on a busy machine."""
_LOOK_S = 0.2
_END_S = 3.0
Message = tuple[dict[str, Any], bytes]
"""Header and payload."""


def write_message(descriptor: int, header: dict[str, Any], payload: bytes = b"") -> None:
    """Writes one message; waits while the pipe is full.

    Raises:
        OSError: The other end of the pipe is closed.
    """
    encoded = json.dumps(header).encode()
    rest = memoryview(_LENGTHS.pack(len(encoded), len(payload)) + encoded + payload)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class MessageReader:
    """Reads messages from a pipe, with a limit on each wait."""

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
        found, at = [], 0
        while len(self._buffer) - at >= _LENGTHS.size:
            header_bytes, payload_bytes = _LENGTHS.unpack_from(self._buffer, at)
            middle = at + _LENGTHS.size + header_bytes
            if len(self._buffer) < middle + payload_bytes:
                break
            header = json.loads(bytes(self._buffer[at + _LENGTHS.size : middle]))
            found.append((header, bytes(self._buffer[middle : middle + payload_bytes])))
            at = middle + payload_bytes
        del self._buffer[:at]
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
