"""The status page of simulated cameras, in the form of the API that MediaMTX had in its version 1 (a stand-in).

`/v1/config` and `/v1/paths` (also `/v1/config/get`, `/v1/paths/list`) answer JSON, `/metrics` Prometheus text. Nothing
can be changed through it.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any

from imgpipeline.sources.simulator.rtsp_simulator import RtspSimulator
from imgpipeline.sources.status_server import Page, serve_pages


def serve_api(simulator: RtspSimulator, port: int, host: str = "127.0.0.1") -> AbstractContextManager[int]:
    """Serves the status while the context lasts.

    Args:
        simulator: Whose cameras.
        port: TCP port; 0: any free one.
        host: Address to listen on.

    Returns:
        The context; yields the port.

    Raises:
        OSError: The port cannot be opened.
    """
    pages: dict[str, Callable[[], tuple[bytes, str]]] = {
        "/v1/config": lambda: _json(config_of(simulator)),
        "/v1/paths": lambda: _json(paths_of(simulator)),
        "/metrics": lambda: (metrics_of(simulator).encode(), "text/plain; version=0.0.4"),
    }

    def page_of(path: str) -> Page:
        page = pages.get(path.removesuffix("/get").removesuffix("/list"))
        return Page(*page()) if page else Page(b"not found\n", status=HTTPStatus.NOT_FOUND)

    return serve_pages(page_of, port, host)


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
