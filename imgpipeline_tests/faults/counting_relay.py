"""A TCP relay that counts requests and what a server sends, and can make each request wait."""

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from imgpipeline_tests.servers.ports import LOOPBACK

_PIECE_BYTES = 65_536
_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) \S+ HTTP/1\.1\r\n")


@dataclass
class CountingRelay:
    """A relay in front of a server on a loopback port; a context manager."""

    target_port: int
    """Port of the server."""
    answered_bytes: int = 0
    """What the server has sent to clients."""
    delay_s: float = 0.0
    """How long each request waits before it is passed on, in seconds."""
    requests: Counter[str] = field(default_factory=Counter)
    """HTTP requests that were passed on, by method. A client sends each as the beginning of a packet."""

    _counting: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((LOOPBACK, 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    @property
    def endpoint(self) -> str:
        """URL of the relay."""
        return f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((LOOPBACK, self.target_port))
                threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError), source, to:
            while piece := source.recv(_PIECE_BYTES):
                found = None if is_answer else _REQUEST.match(piece)
                with self._counting:  # connections are passed on at the same time
                    if found:
                        self.requests[found[1].decode()] += 1
                    self.answered_bytes += len(piece) if is_answer else 0
                if found:
                    time.sleep(self.delay_s)
                to.sendall(piece)
