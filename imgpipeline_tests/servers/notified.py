"""A webhook and a mail server that keep what they receive, in this process or in processes that can be killed.

`python -m imgpipeline_tests.servers.notified web|mail PORT FILE`: a message is in the file, one JSON text a line,
before its sender is told that it was accepted.
"""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import ServerProcess

Received = list[dict[str, str]]


def _webhook(keep: Callable[[dict[str, str]], None]) -> type[BaseHTTPRequestHandler]:
    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keep(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    return Webhook


@contextmanager
def web_server(received: Received, port: int = 0) -> Iterator[int]:
    """Serve a webhook that notes what it receives; yields its port."""
    with ThreadingHTTPServer((LOOPBACK, port), _webhook(received.append)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class _Mailbox:
    def __init__(self, keep: Callable[[str], None]) -> None:
        self._keep = keep

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        for part in message_from_bytes(envelope.content).walk():
            if part.get_content_type() == "text/plain":
                self._keep(part.get_payload(decode=True).decode())
        return "250 OK"


def mail_server(keep: Callable[[str], None], port: int) -> Controller:
    """Return a mail server that is not started; it keeps the text of each mail."""
    return Controller(_Mailbox(keep), hostname=LOOPBACK, port=port)


class Notified:
    """One server; a context manager. It comes back on its port."""

    def __init__(self, kind: str, folder: Path) -> None:
        """Prepare a server: `web` or `mail`."""
        self.port, self._file = free_port(), folder / f"{kind}.jsonl"
        program = [sys.executable, "-m", "imgpipeline_tests.servers.notified", kind, str(self.port), self._file]
        self._process = ServerProcess(kind, program, folder / f"{kind}.log")
        self.target = (
            f"json://{LOOPBACK}:{self.port}"
            if kind == "web"
            else f"mailto://{LOOPBACK}:{self.port}?from=a@example.com&to=b@example.com&mode=insecure"
        )

    def start(self) -> None:
        """Start it; it answers when this returns."""
        self._process.start(lambda: self._process.listens_on(self.port), limit_s=60)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    @property
    def messages(self) -> list[str]:
        """What it has accepted, in order."""
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []


def _keep(text: str) -> None:
    with Path(sys.argv[3]).open("a") as file:
        file.write(json.dumps(text) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "web":
        kept = _webhook(lambda message: _keep(message["message"]))
        ThreadingHTTPServer((LOOPBACK, int(sys.argv[2])), kept).serve_forever()
    mail_server(_keep, int(sys.argv[2])).start()
    threading.Event().wait()
