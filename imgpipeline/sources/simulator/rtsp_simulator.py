"""Simulated cameras over RTSP: draws clips, runs the server program (`rtsp_program`), and serves a status API.

A clip is a scene as encoded video packets, which the server plays in a loop. The number in the upper left corner of
each picture survives lossy compression: sixteen bits and four check bits, each a cell of 12x8 pixels, white for 1 and
black for 0. So a decoded frame can be compared with its own truth.

The status API imitates version 1 of MediaMTX's API: `/v1/config` and `/v1/paths` (also `/v1/config/get` and
`/v1/paths/list`) return JSON, `/metrics` returns Prometheus text. It is read-only.
"""

import contextlib
import json
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from fractions import Fraction
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import av
import cv2

from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.sources.metrics import StatusPage, serve_pages
from imgpipeline.sources.simulator.drawing import Image
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline.sources.simulator.truth import Truth
from imgpipeline.sources.simulator.writer import object_to_json
from imgpipeline.vision.annotate import encode_jpeg

_PYTHON = "/usr/bin/python3"
_PROBE = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
_START_LIMIT_S = 60.0
PACKAGES = "python3-gst-1.0 gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
CODES = 2**16
"""Numbers restart at 0 after this many."""
_CELL_W, _CELL_H, _BITS = 12, 8, 20


def numbered_frames(scene: Scene) -> Iterator[tuple[Image, list[Truth]]]:
    """Yields each picture of a scene with its number in the corner, and its truth."""
    for number in range(len(scene)):
        pixels, objects = scene.frame(number)
        yield draw_number(pixels, number), objects


def write_clip(pictures: Iterable[Image], path: Path, *, codec: str, fps: float) -> int:
    """Writes a clip: for each packet a flag (key frame), the length, and the bytes.

    Args:
        pictures: uint8 [height, width, 3] BGR, with even sides; the size may change between pictures.
        codec: `h264` or `mjpeg`. H.264 has one key frame per second, and one wherever the size changes.
        fps: Frames per second, > 0.
    """
    jpegs = ((True, encode_jpeg(picture)) for picture in pictures)
    packets = jpegs if codec == "mjpeg" else _h264(pictures, fps)
    count = 0
    with path.open("wb") as file:
        for is_key, data in packets:
            file.write(struct.pack(">?I", is_key, len(data)) + data)
            count += 1
    return count


def write_scene_clip(scene: Scene, folder: Path, *, name: str, codec: str, fps: float) -> Path:
    """Writes the clip of a scene as `{name}.clip` and its truth as `{name}.truth.jsonl`, and returns the clip's path.

    A line of the truth is `{"number", "objects"}` with the number in the picture's corner.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, truths = [], []
    for number, (picture, objects) in enumerate(numbered_frames(scene)):
        pictures.append(picture)
        truths.append(json.dumps({"number": number, "objects": list(map(object_to_json, objects))}) + "\n")
    path = folder / f"{name}.clip"
    write_clip(pictures, path, codec=codec, fps=fps)
    (folder / f"{name}.truth.jsonl").write_text("".join(truths), encoding="utf-8")
    return path


def _h264(pictures: Iterable[Image], fps: float) -> Iterator[tuple[bool, bytes]]:
    encoder: av.VideoCodecContext | None = None
    for number, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        if encoder is None or (encoder.width, encoder.height) != (width, height):
            encoder = _encoder(width, height, fps)
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts = number
        yield from ((bool(packet.is_keyframe), bytes(packet)) for packet in encoder.encode(frame))


def _encoder(width: int, height: int, fps: float) -> av.VideoCodecContext:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = Fraction(fps).limit_denominator(1000)
    encoder.time_base = 1 / encoder.framerate
    encoder.gop_size = max(1, round(fps))
    # One slice per picture and no delay: each picture is one packet, which RTP packers do not split.
    one_slice = "threads=1:sliced-threads=0:repeat-headers=1:scenecut=0"
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "20", "x264-params": one_slice}
    return encoder


def draw_number(image: Image, number: int) -> Image:
    """Returns a copy of [height, width, 3] uint8 BGR pixels with the number in the corner."""
    marked = image.copy()
    code = _with_check(number % CODES)
    for bit in range(_BITS):
        shade = 255 if code >> bit & 1 else 0
        left = bit * _CELL_W
        cv2.rectangle(marked, (left, 0), (left + _CELL_W - 1, _CELL_H - 1), (shade,) * 3, -1)
    return marked


def _with_check(number: int) -> int:
    check = sum(number >> shift & 15 for shift in (0, 4, 8, 12)) ^ 0b1010
    return number | (check & 15) << 16


@dataclass(frozen=True, slots=True)
class SimulatedCamera:
    """One path of the server."""

    path: str
    clip: str
    codec: str
    fps: float
    user: str | None = None
    """The only user who may read it; None: everyone may."""
    password: str | None = None
    clock_shift_s: float = 0.0
    """How far the clock of its sender reports is ahead, in seconds."""


class RtspSimulator:
    """An RTSP server with simulated cameras; a context manager."""

    def __init__(self, cameras: Sequence[SimulatedCamera], *, host: str = "127.0.0.1", port: int = 8554) -> None:
        self.cameras, self.host, self.port = tuple(cameras), host, port
        self.readers: Mapping[str, int] = {}
        """Number of readers of each path."""
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()

    @property
    def process(self) -> subprocess.Popen[str]:
        """The server's process."""
        if self._process is None:
            raise RuntimeError("the RTSP server was not started")
        return self._process

    def url(self, path: str) -> str:
        """Returns the URL of a camera, without user and password."""
        return f"rtsp://{self.host}:{self.port}/{path}"

    def start(self) -> None:
        """Starts the server, and returns when it listens.

        Raises:
            ConfigurationError: The system's Python has no GStreamer.
            TransientError: The port is in use, or the server does not start in time.
        """
        check_program()
        self._ready.clear()
        program = Path(__file__).with_name("rtsp_program.py")
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [_PYTHON, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        plan = {"host": self.host, "port": self.port, "cameras": [asdict(camera) for camera in self.cameras]}
        self._tell(plan)
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._ready.wait(_START_LIMIT_S)
        if self._process.poll() is not None or not self._ready.is_set():
            self.stop()
            raise TransientError(
                f"The RTSP server did not start on {self.host}:{self.port}.",
                next_step="choose another --port if another program uses this one",
            )

    def shift_clock(self, path: str, *, shifted: bool) -> None:
        """Switches the clock of a camera's sender reports while it streams."""
        self._tell({"path": path, "shifted": shifted})

    def stop(self) -> None:
        """Ends the server."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _tell(self, document: Mapping[str, object]) -> None:
        stdin = self.process.stdin
        if stdin:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(json.dumps(document) + "\n")
                stdin.flush()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ValueError):  # closed while it is read
            for line in process.stdout or ():
                self.readers = json.loads(line)
                self._ready.set()
        self._ready.set()


def check_program() -> None:
    """Checks that the server program can run on this machine.

    Raises:
        ConfigurationError: It cannot. The message says what to install.
    """
    with contextlib.suppress(OSError):
        if not subprocess.run([_PYTHON, "-c", _PROBE], check=False, capture_output=True).returncode:  # noqa: S603 - ours
            return
    raise ConfigurationError(
        f"Simulated cameras need GStreamer's RTSP server for {_PYTHON}, which is not installed.",
        next_step=f"on Debian or Ubuntu, as root: apt-get install --no-install-recommends {PACKAGES}",
    )


def serve_api(simulator: RtspSimulator, port: int, host: str = "127.0.0.1") -> AbstractContextManager[int]:
    """Serves the status API while the context lasts.

    Raises:
        ConfigurationError: The port cannot be opened.
    """
    pages: dict[str, Callable[[], tuple[bytes, str]]] = {
        "/v1/config": lambda: _json(config_of(simulator)),
        "/v1/paths": lambda: _json(paths_of(simulator)),
        "/metrics": lambda: (metrics_of(simulator).encode(), "text/plain; version=0.0.4"),
    }

    def page_of(path: str) -> StatusPage:
        page = pages.get(path.removesuffix("/get").removesuffix("/list"))
        return StatusPage(*page()) if page else StatusPage(b"not found\n", status=HTTPStatus.NOT_FOUND)

    return serve_pages(page_of, port, host)


def config_of(simulator: RtspSimulator) -> dict[str, Any]:
    """Returns addresses and paths, without passwords."""
    paths = {camera.path: {"source": "publisher", "sourceProtocol": "tcp"} for camera in simulator.cameras}
    return {"rtspAddress": f"{simulator.host}:{simulator.port}", "protocols": ["tcp"], "paths": paths}


def paths_of(simulator: RtspSimulator) -> dict[str, Any]:
    """Returns each path with its readers."""
    readers = simulator.readers
    return {
        "items": {
            camera.path: {
                "confName": camera.path,
                "source": {"type": "simulator"},
                "sourceReady": True,
                "tracks": [{"h264": "H264", "mjpeg": "M-JPEG"}[camera.codec]],
                "readers": [{"type": "rtspSession"}] * readers.get(camera.path, 0),
            }
            for camera in simulator.cameras
        }
    }


def metrics_of(simulator: RtspSimulator) -> str:
    """Returns state and readers of each path as Prometheus text."""
    lines = ["# TYPE paths gauge", "# TYPE paths_readers gauge"]
    for camera in simulator.cameras:
        lines.append(f'paths{{name="{camera.path}",state="ready"}} 1')
        lines.append(f'paths_readers{{name="{camera.path}"}} {simulator.readers.get(camera.path, 0)}')
    return "\n".join(lines) + "\n"


def _json(document: dict[str, Any]) -> tuple[bytes, str]:
    return json.dumps(document, indent=1).encode(), "application/json"
