"""A real RTSP server (GStreamer's) with simulated cameras: killed, frozen and restarted on the same port by tests."""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from imgpipeline.sources.simulator.rtsp_simulator import RtspSimulator, SimulatedCamera, draw_number, write_clip
from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.ports import LOOPBACK, free_port


class RtspServer(RtspSimulator):
    """The simulator's server; a context manager."""

    def __init__(self, cameras: Sequence[SimulatedCamera]) -> None:
        programs.rtsp_python()
        super().__init__(cameras, host=LOOPBACK, port=free_port())

    def kill(self) -> None:
        """End the server by SIGKILL."""
        self.stop()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process by SIGSTOP for the time of the context: connections stay open, nothing answers."""
        pid = self.process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def numbered_pictures(count: int, width: int = 320, height: int = 176) -> list[np.ndarray]:
    """Return grey pictures that carry their numbers in their upper left corners."""
    return [draw_number(np.full((height, width, 3), 40 + n % 160, np.uint8), n) for n in range(count)]


def make_camera(folder: Path, path: str, *, codec: str = "h264", fps: float = 10.0, **options) -> SimulatedCamera:
    """Return a camera whose clip of 60 numbered pictures runs by the wall clock: number = time x fps modulo 60."""
    clip = folder / f"{path}.clip"
    write_clip(numbered_pictures(60), clip, codec=codec, fps=fps)
    return SimulatedCamera(path, str(clip), codec, fps, **options)
