"""An RTSP server that plays clips in a loop, as cameras do. Run it with the system's Python, which has GStreamer.

The first line on stdin is JSON: `{"host", "port", "cameras": [{"path", "clip", "codec", "fps", "user", "password",
"clock_shift_s"}]}`. A later line `{"path", "shifted"}` switches a camera's clock between correct and shifted while it
streams. The server prints the number of readers of each path as a line of JSON when it is ready and whenever a number
changes. It ends with its stdin, and imports nothing of this package.
"""

import ctypes
import json
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402, F401 - GstApp: the methods of appsrc

_PAYLOADERS = {
    "h264": ("video/x-h264,stream-format=byte-stream,alignment=au", "h264parse ! rtph264pay config-interval=-1"),
    "mjpeg": ("image/jpeg", "jpegparse ! rtpjpegpay"),
}
_PR_SET_PDEATHSIG = 1
_ANYBODY = "anybody"
_UNIX_EPOCH_IN_NTP_S = 2_208_988_800


def read_clip(path: Path) -> list[tuple[bool, bytes]]:
    """Returns the packets of a clip: a flag (key frame), a length and the bytes of each (see `rtsp_simulator`)."""
    data, packets, at = path.read_bytes(), [], 0
    while at < len(data):
        is_key, size = struct.unpack_from(">?I", data, at)
        packets.append((is_key, data[at + 5 : at + 5 + size]))
        at += 5 + size
    return packets


class Camera:
    """One path; its clip runs by the wall clock, with and without readers."""

    def __init__(self, server: Any, plan: dict[str, Any]) -> None:
        self.fps = plan["fps"]
        self._packets = read_clip(Path(plan["clip"]))
        self._shifted = bool(plan.get("clock_shift_s"))
        self._pipelines: list[Any] = []
        self._clock = _shifted_clock(plan.get("clock_shift_s") or 0)
        factory = GstRtspServer.RTSPMediaFactory()
        caps, payloader = _PAYLOADERS[plan["codec"]]
        source = f"appsrc name=frames is-live=true do-timestamp=true format=time caps={caps}"
        factory.set_launch(f"( {source} ! {payloader} name=pay0 pt=96 )")
        factory.set_shared(True)
        factory.set_clock(self._clock)
        factory.connect("media-configure", self._configure)
        _allow(server, factory, plan)
        server.get_mount_points().add_factory(f"/{plan['path']}", factory)

    def shift_clock(self, shifted: bool) -> None:
        """Switches sender reports to the shifted or the correct clock."""
        self._shifted = shifted
        for pipeline in self._pipelines:
            for element in pipeline.children:
                if element.get_factory().get_name() == "rtpbin":
                    element.set_property("ntp-time-source", "clock-time" if shifted else "ntp")

    def _configure(self, _factory: Any, media: Any) -> None:
        """Feeds a new medium until its last reader leaves."""
        gone = threading.Event()
        pipeline = media.get_element().get_parent()
        self._pipelines.append(pipeline)
        media.connect("prepared", lambda _media: self.shift_clock(self._shifted))
        media.connect("unprepared", lambda _media: gone.set())
        media.connect("unprepared", lambda _media: self._pipelines.remove(pipeline))
        source = media.get_element().get_by_name("frames")
        threading.Thread(target=self._feed, args=(source, gone), daemon=True).start()

    def _feed(self, source: Any, gone: threading.Event) -> None:
        """Pushes each packet when it is due, starting with the next key frame."""
        number, started = int(time.time() * self.fps), False
        while not gone.wait(max(0.0, number / self.fps - time.time())):
            is_key, data = self._packets[number % len(self._packets)]
            number += 1
            started = started or is_key
            if started and source.push_buffer(Gst.Buffer.new_wrapped(data)) != Gst.FlowReturn.OK:
                return


def _shifted_clock(shift_s: float) -> Any:
    """Returns a clock that shows NTP time (seconds since 1900), shifted by a number of seconds."""
    clock = Gst.SystemClock(clock_type=Gst.ClockType.REALTIME)
    clock.set_calibration(0, int((_UNIX_EPOCH_IN_NTP_S + shift_s) * Gst.SECOND), 1, 1)
    return clock


def _allow(server: Any, factory: Any, plan: dict[str, Any]) -> None:
    """Restricts a path to clients that know its password, if it has one."""
    secret, named = bool(plan.get("password")), f"reader-of-{plan['path']}"
    if secret:
        basic = GstRtspServer.RTSPAuth.make_basic(plan["user"], plan["password"])
        server.get_auth().add_basic(basic, _token(named))
    for role, may_read in ((named, True), (_ANYBODY, not secret)):
        may = Gst.Structure.new_empty(role)
        may.set_value("media.factory.access", True)  # without it the answer is 404 instead of 401
        may.set_value("media.factory.construct", may_read)
        factory.add_role_from_structure(may)


def _token(role: str) -> Any:
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", role)
    return token


class Readers:
    """Counts the readers of each path, and prints the counts whenever one changes."""

    def __init__(self, paths: list[str]) -> None:
        self._counts = dict.fromkeys(paths, 0)

    def admit(self, _server: Any, client: Any) -> None:
        """Follows a new connection."""
        client.connect("play-request", lambda _client, context: self._play(client, context.uri.abspath.strip("/")))

    def tell(self) -> None:
        """Prints the counts."""
        sys.stdout.write(json.dumps(self._counts) + "\n")
        sys.stdout.flush()

    def _play(self, client: Any, asked: str) -> None:
        path = next((path for path in self._counts if f"{asked}/".startswith(f"{path}/")), None)
        if path is not None:
            self._change(path, 1)
            client.connect("closed", lambda _client: self._change(path, -1))

    def _change(self, path: str, by: int) -> None:
        self._counts[path] += by
        self.tell()


def main() -> None:
    """Serves until stdin ends or the parent is killed (on Linux even while this process is stopped)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    plan = json.loads(sys.stdin.readline())
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(plan["host"])
    server.set_service(str(plan["port"]))
    auth = GstRtspServer.RTSPAuth()
    auth.set_default_token(_token(_ANYBODY))
    server.set_auth(auth)
    cameras = {camera["path"]: Camera(server, camera) for camera in plan["cameras"]}
    readers = Readers(list(cameras))
    server.connect("client-connected", readers.admit)
    if not server.attach(None):
        sys.exit(f"cannot listen on {plan['host']}:{plan['port']}")
    threading.Thread(target=_obey, args=(cameras,), daemon=True).start()
    readers.tell()
    GLib.MainLoop().run()


def _obey(cameras: dict[str, Camera]) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        GLib.idle_add(cameras[command["path"]].shift_clock, command["shifted"])
    os._exit(0)


if __name__ == "__main__":
    main()
