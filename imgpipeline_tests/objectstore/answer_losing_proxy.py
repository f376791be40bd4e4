"""An HTTP proxy that loses the answers it is told to lose: the request has reached the server.

Toxiproxy cuts connections by bytes and time; the loss of exactly one answer, after the server has done what was asked,
needs to know requests. One connection carries one request; the signed `Host` header is passed on as it is.
"""

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from imgpipeline_tests.servers.ports import LOOPBACK


class Fate(Enum):
    """How one request ends."""

    FORWARD = "the server answers"
    LOSE_ANSWER = "the server does it, the connection breaks before the answer"
    LOSE_REQUEST = "the connection breaks before the server has seen it"
    ANSWER_503_AFTER = "the server does it, the answer says 503"
    ANSWER_503_BEFORE = "the server has not seen it, the answer says 503"
    ANSWER_500 = "the server has not seen it, the answer says 500"
    NO_ANSWER = "the server has not seen it, and no answer comes"
    ANSWER_409 = "the server has not seen it, the answer says that it conflicts with another request"
    ANSWER_403 = "the server has not seen it, the answer refuses it"


@dataclass
class AnswerLosingProxy:
    """A proxy in front of a server on a loopback port; a context manager."""

    target_port: int
    """Port of the server."""
    fate: Callable[[str, str, int], Fate] = lambda _method, _path, _number: Fate.FORWARD
    """Decides by method, path, and the number of earlier requests with the same method and path."""
    seen: list[tuple[str, str, Fate]] = field(default_factory=list)
    """All requests in order, each with its fate."""
    whole: list[str] = field(default_factory=list)
    """Paths of all GET requests for whole objects."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the end, to release requests that wait for an answer."""

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """URL of the proxy."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def decide(self, method: str, path: str) -> Fate:
        """Decide the fate of one request and record it."""
        with self._lock:
            before = sum(1 for seen_method, seen_path, _ in self.seen if (seen_method, seen_path) == (method, path))
            fate = self.fate(method, path, before)
            self.seen.append((method, path, fate))
            return fate

    def fates(self, method: str, part: str = "") -> list[Fate]:
        """Return the fates of the requests with a method and a part of the path."""
        return [fate for seen_method, path, fate in self.seen if seen_method == method and part in path]


class _Handler(BaseHTTPRequestHandler):
    proxy: AnswerLosingProxy

    def handle_any(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = self.proxy.decide(self.command, self.path.partition("?")[0])
        if self.command == "GET" and "Range" not in self.headers:
            self.proxy.whole.append(self.path.partition("?")[0])
        if fate is Fate.LOSE_REQUEST:
            return
        if fate is Fate.NO_ANSWER:
            self.proxy.over.wait(120)
            return
        if fate in (Fate.ANSWER_503_BEFORE, Fate.ANSWER_500, Fate.ANSWER_409, Fate.ANSWER_403):
            self.refuse(fate)
            return
        status, headers, answer = self.forward(body)
        if fate is Fate.LOSE_ANSWER:
            return
        if fate is Fate.ANSWER_503_AFTER:
            self.refuse(fate)
            return
        self.answer(status, headers, answer)

    def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(LOOPBACK, self.proxy.target_port, timeout=20)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        response = upstream.getresponse()
        read = response.read()
        upstream.close()
        return response.status, response.getheaders(), read

    def refuse(self, fate: Fate) -> None:
        status, code = {
            Fate.ANSWER_409: (409, "ConditionalRequestConflict"),
            Fate.ANSWER_403: (403, "AccessDenied"),
            Fate.ANSWER_500: (500, "InternalError"),
        }.get(fate, (503, "SlowDown"))
        body = f"<Error><Code>{code}</Code><Message>by the test</Message></Error>".encode()
        self.answer(status, [("Content-Type", "application/xml")], body)

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                self.send_header(name, value)
        length = {n.lower(): v for n, v in headers}.get("content-length", str(len(body)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        """Log nothing; tests read `seen`."""
