"""A real HTTP server for downloads that can be told to cut connections."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class FileServer:
    """What is served, and what was asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    """The next answers end after so many bytes, although more were announced."""
    statuses: list[int] = field(default_factory=list)
    """The next answers have these statuses and no body."""
    asked: list[str] = field(default_factory=list)
    """Names in all requests."""


@contextmanager
def serve_files(files: dict[str, bytes]) -> Iterator[FileServer]:
    """Serve files on a free loopback port until the block ends."""
    state = FileServer(files=files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, state)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(request: BaseHTTPRequestHandler, state: FileServer) -> None:
    name = request.path.lstrip("/")
    state.asked.append(name)
    status = state.statuses.pop(0) if state.statuses else 200
    if status != 200 or name not in state.files:
        request.send_error(status if status != 200 else 404)
        return
    body = state.files[name]
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)
