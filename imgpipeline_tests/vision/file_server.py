"""A real HTTP server for downloads, with ranges, that can be told to cut connections."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class FileServer:
    """What is served, and what was asked for."""

    url: str = ""
    """Where it listens."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Content by name."""
    ranges: bool = True
    """Whether it knows range requests."""
    cut_after: list[int] = field(default_factory=list)
    """The next answers end after so many bytes, although more were announced."""
    statuses: list[int] = field(default_factory=list)
    """The next answers have these statuses and no body."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Names and Range headers of all requests."""


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
    name, wanted = request.path.lstrip("/"), request.headers.get("Range")
    state.asked.append((name, wanted))
    status = state.statuses.pop(0) if state.statuses else 200
    if status != 200 or name not in state.files:
        request.send_error(status if status != 200 else 404)
        return
    content, start = state.files[name], 0
    if wanted and state.ranges:
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1))
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        request.send_response(200)
    body = content[start:]
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)
