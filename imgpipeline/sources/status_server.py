"""A small HTTP server for status pages, which runs in a thread while a context lasts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a request."""

    body: bytes
    """The content."""
    content_type: str = "text/plain"
    """The type of the content."""
    status: HTTPStatus = HTTPStatus.OK
    """The HTTP status."""


@contextmanager
def serve_pages(page_of: Callable[[str], Page], port: int, address: str) -> Iterator[int]:
    """Serves pages to GET requests while the context lasts.

    Args:
        page_of: Returns the page of a path; called in the threads of the requests.
        port: TCP port; 0: any free one.
        address: Address to listen on.

    Yields:
        The port.

    Raises:
        OSError: The port cannot be opened.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = page_of(self.path)
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, *_: object) -> None:
            """Requests are not logged."""

    with ThreadingHTTPServer((address, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="status pages", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
