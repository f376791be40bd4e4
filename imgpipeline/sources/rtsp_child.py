"""The process that reads one camera: `python -m imgpipeline.sources.rtsp_child`, started by `rtsp`.

Native decoders can hang and crash, so each camera has its own process. The process gets the URL through stdin, because
others can see arguments, sends frames through stdout, and ends when stdin is closed. If its parent is slow, the oldest
waiting frame is dropped and counted.

It imports nothing of the package that it does not need, because every camera's process loads it.
"""

import ctypes
import json
import os
import signal
import struct
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator
from time import monotonic, time
from typing import Any

import av
import cv2
import numpy as np

from imgpipeline.faultpoints import reach
from imgpipeline.sources.rate import RatePicker

JPEG_QUALITY = 90
_PR_SET_PDEATHSIG = 1
_FLUSH_S = 2.0
_REPORT_LOST_S = 0.5
_ROOM_S = 0.02
"""How long a frame waits for room in the queue: after a stall of the network, frames come faster than a thread starts,
and a parent that keeps up must not lose them. Shorter than the time between frames, so that a slow parent is noticed.
"""
_CAUSES: dict[type[BaseException], str] = {
    av.error.ConnectionRefusedError: "connection refused",
    av.error.ConnectionResetError: "the camera closed the connection",
    av.error.BrokenPipeError: "the camera closed the connection",
    av.error.HTTPUnauthorizedError: "401 unauthorized: user or password is wrong",
    av.error.HTTPForbiddenError: "403 forbidden",
    av.error.HTTPNotFoundError: "404 not found: the camera has no such path",
    av.error.HTTPServerError: "the camera reports an internal error",
    av.error.TimeoutError: "the camera does not answer in time",
    av.error.ExitError: "the camera does not answer in time",
    av.error.EOFError: "the camera ended the stream",
    av.error.InvalidDataError: "no RTSP answer, or no video that can be decoded",
}


def write_message(descriptor: int, header: dict[str, Any], payload: bytes = b"") -> None:
    """Writes one message: a line of JSON that has the payload's size, and the payload; waits while the pipe is full.

    Raises:
        OSError: The other end of the pipe is closed.
    """
    rest = memoryview(json.dumps({**header, "size_bytes": len(payload)}).encode() + b"\n" + payload)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class Outbox:
    """A bounded queue of messages to the parent; if it is full, the oldest frame is dropped and counted."""

    def __init__(self, descriptor: int, frames: int) -> None:
        self._descriptor, self._limit = descriptor, frames
        self._changed = threading.Condition()
        self._waiting: deque[tuple[dict[str, Any], bytes]] = deque()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Adds a message; drops the oldest frame if too many wait."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._frames()) < self._limit, timeout=_ROOM_S):
                self._waiting.remove(self._frames()[0])
                self._lost["queue", "dropped"] += 1
            self._waiting.append((header, payload))
            self._changed.notify_all()

    def lose(self, reason: str, how: str) -> None:
        """Counts a frame that is not sent."""
        with self._changed:
            self._lost[reason, how] += 1

    def close(self) -> None:
        """Sends the waiting messages, for a limited time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_FLUSH_S)

    def _frames(self) -> list[tuple[dict[str, Any], bytes]]:
        return [message for message in self._waiting if message[0]["kind"] == "frame"]

    def _run(self) -> None:
        reported = monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing, timeout=_REPORT_LOST_S)
                batch, closing = list(self._waiting)[:1], self._closing
                if batch:
                    self._waiting.popleft()
                    self._changed.notify_all()
                lost: Counter[tuple[str, str]] = Counter()
                if monotonic() - reported > _REPORT_LOST_S or (closing and not batch):
                    lost, self._lost, reported = self._lost, lost, monotonic()
            for (reason, how), count in lost.items():
                write_message(self._descriptor, {"kind": "lost", "reason": reason, "how": how, "count": count})
            for header, payload in batch:
                write_message(self._descriptor, header, payload)
            if closing and not batch:
                return


def main() -> int:
    """Reads the camera that stdin names, until the camera fails or stdin ends; returns the exit status."""
    _end_with_parent()
    descriptor = os.dup(1)
    os.dup2(2, 1)  # native code prints to stdout, which must hold messages only
    plan = json.loads(sys.stdin.buffer.readline())
    stop = threading.Event()
    threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
    cv2.setNumThreads(1)
    outbox = Outbox(descriptor, plan["queue_frames"])
    outbox.put({"kind": "started"})
    reason = "stopped"
    try:
        _read_camera(plan, outbox, stop)
    except (av.FFmpegError, OSError) as error:
        reason = cause_of(error)
    outbox.close()
    write_message(descriptor, {"kind": "ended", "reason": reason})
    return 0


def cause_of(error: BaseException) -> str:
    """Returns what went wrong, without the URL that FFmpeg includes in its messages."""
    for kind, cause in _CAUSES.items():
        if isinstance(error, kind):
            return cause
    detail = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {detail}" if detail else type(error).__name__


def _read_camera(plan: dict[str, Any], outbox: Outbox, stop: threading.Event) -> None:
    options = {
        "rtsp_transport": "tcp",
        "allowed_media_types": "video",
        "timeout": str(round(plan["read_timeout_s"] * 1e6)),
        "fpsprobesize": "0",
        "analyzeduration": "1000000",
    }
    picker = RatePicker(plan["fps"])
    with av.open(plan["url"], options=options, timeout=(plan["open_timeout_s"], plan["read_timeout_s"])) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count = 1
        outbox.put({"kind": "opened", "codec": context.name, "width": context.width, "height": context.height})
        clock = SenderClock()
        for packet in container.demux(stream):
            if stop.is_set():
                return
            received = time()
            clock.hear(packet)
            for frame in _frames_of(packet, context.name, outbox):
                reach("rtsp frame", plan["name"])
                _send_frame(frame, clock, received, picker, outbox)


class SenderClock:
    """The camera's clock, from its RTCP sender reports. FFmpeg attaches their time to each packet as `prft`."""

    def __init__(self) -> None:
        self._start: float | None = None

    def hear(self, packet: "av.Packet[av.VideoStream]") -> None:
        """Reads the time of a packet, if it has one (struct AVProducerReferenceTime: microseconds since 1970)."""
        if packet.pts is None or packet.time_base is None or not packet.has_sidedata("prft"):
            return
        wall_us = struct.unpack_from("=q", bytes(packet.get_sidedata("prft")))[0]
        self._start = wall_us / 1e6 - float(packet.pts * packet.time_base)

    def time_of(self, stream_s: float | None) -> float | None:
        """Returns when the camera took the frame at this time of the stream, in Unix seconds; None: unknown."""
        return None if self._start is None or stream_s is None else self._start + stream_s


Picture = tuple[float | None, av.VideoFrame | None, bytes]
"""Time of the stream in seconds; decoded frame, or None; bytes of a JPEG if there is no decoded frame."""


def _frames_of(packet: "av.Packet[av.VideoStream]", codec: str, outbox: Outbox) -> Iterator[Picture]:
    if not packet.size:
        return
    if codec == "mjpeg":
        data = bytes(packet)
        if data.startswith(b"\xff\xd8"):
            yield _seconds(packet), None, data
        else:
            outbox.lose("decode", "failed")
        return
    try:
        frames = packet.decode()
    except av.error.InvalidDataError:
        outbox.lose("decode", "failed")
        return
    for frame in frames:
        yield _seconds(frame), frame, b""


def _seconds(timed: "av.Packet[av.VideoStream] | av.VideoFrame") -> float | None:
    return None if timed.pts is None or timed.time_base is None else float(timed.pts * timed.time_base)


def _send_frame(picture: Picture, clock: SenderClock, received: float, picker: RatePicker, outbox: Outbox) -> None:
    stream_s, frame, data = picture
    if not picker.takes(received if stream_s is None else stream_s):
        outbox.lose("frame_rate", "gated")
        return
    header: dict[str, Any] = {"kind": "frame", "received": received, "sent": clock.time_of(stream_s)}
    if frame is not None:
        header |= {"width": frame.width, "height": frame.height}
        pixels = frame.to_ndarray(format="bgr24")
        done, jpeg = cv2.imencode(".jpg", np.asarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        data = jpeg.tobytes() if done else b""
    if data:
        outbox.put(header, data)
    else:
        outbox.lose("encode", "failed")


def _watch_stdin(stop: threading.Event) -> None:
    """Stops when the parent closes stdin or dies."""
    while sys.stdin.buffer.read(4096):
        pass
    stop.set()
    threading.Event().wait(2 * _FLUSH_S)
    os._exit(0)


def _end_with_parent() -> None:
    """Asks Linux to kill this process with its parent: hanging native code does not notice a closed stdin."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
