"""The status page of simulated cameras, in the form of the API that MediaMTX had in its version 1 (a stand-in).

`/v1/config` and `/v1/paths` (also `/v1/config/get`, `/v1/paths/list`) answer JSON, `/metrics` Prometheus text. Nothing
can be changed through it.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from imgpipeline.sources.simulator.rtsp_simulator import RtspSimulator


@contextmanager
def serve_api(simulator: RtspSimulator, port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Serves the status while the context lasts.

    Args:
        simulator: Whose cameras.
        port: TCP port; 0: any free one.
        host: Address to listen on.

    Yields:
        The port.

    Raises:
        OSError: The port cannot be opened.
    """
    pages: dict[str, Callable[[], tuple[bytes, str]]] = {
        "/v1/config": lambda: _json(config_of(simulator)),
        "/v1/paths": lambda: _json(paths_of(simulator)),
        "/metrics": lambda: (metrics_of(simulator).encode(), "text/plain; version=0.0.4"),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path.removesuffix("/get").removesuffix("/list"))
            body, kind = page() if page else (b"not found\n", "text/plain")
            self.send_response(HTTPStatus.OK if page else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Requests are not logged."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def config_of(simulator: RtspSimulator) -> dict[str, Any]:
    """Returns the configuration: addresses, and the paths without their passwords."""
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
    """Returns readers and state of each path as Prometheus text."""
    lines = ["# TYPE paths gauge", "# TYPE paths_readers gauge"]
    for camera in simulator.cameras:
        lines.append(f'paths{{name="{camera.path}",state="ready"}} 1')
        lines.append(f'paths_readers{{name="{camera.path}"}} {simulator.readers.get(camera.path, 0)}')
    return "\n".join(lines) + "\n"


def _json(document: dict[str, Any]) -> tuple[bytes, str]:
    return json.dumps(document, indent=1).encode(), "application/json"
