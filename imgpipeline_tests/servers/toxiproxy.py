"""A real toxiproxy: TCP proxies between the project and a server, with faults switched on and off by a test.

The kinds of faults ("toxics") and their attributes are those of toxiproxy's own documentation: `latency`,
`timeout`, `reset_peer`, `bandwidth`, `limit_data`, `slicer`, `slow_close`.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess


@dataclass(frozen=True, slots=True)
class Proxy:
    """One listening port whose traffic goes on to one server."""

    server: "ToxiproxyServer"
    """The toxiproxy that it belongs to."""
    name: str
    """Its name there."""
    port: int
    """The loopback port to connect to."""

    @property
    def address(self) -> str:
        """The port with its host: `127.0.0.1:port`."""
        return f"{LOOPBACK}:{self.port}"

    def disconnect(self) -> None:
        """Close all connections and refuse new ones."""
        self.server.ask("POST", f"/proxies/{self.name}", {"enabled": False})

    def reconnect(self) -> None:
        """Accept connections again."""
        self.server.ask("POST", f"/proxies/{self.name}", {"enabled": True})

    @contextmanager
    def disconnected(self) -> Iterator[None]:
        """Refuse connections for the time of the context."""
        self.disconnect()
        try:
            yield
        finally:
            self.reconnect()

    @contextmanager
    def fault(
        self, kind: str, stream: Literal["upstream", "downstream"] = "downstream", **attributes: int
    ) -> Iterator[None]:
        """Switch one fault on for the time of the context.

        Args:
            kind: Toxiproxy's name of the fault.
            stream: The direction it works in; `downstream` is the server's answers.
            **attributes: The fault's attributes, such as `latency=500` (milliseconds) or `bytes=10`.
        """
        toxic = {"name": kind, "type": kind, "stream": stream, "attributes": attributes}
        self.server.ask("POST", f"/proxies/{self.name}/toxics", toxic)
        try:
            yield
        finally:
            self.server.ask("DELETE", f"/proxies/{self.name}/toxics/{kind}")

    def delete(self) -> None:
        """Close the port for good."""
        self.server.ask("DELETE", f"/proxies/{self.name}")


class ToxiproxyServer(Server):
    """One toxiproxy; a context manager.

    Guarantees:
        Ready when `start` returns (0.05 s). A proxy listens when `create_proxy` returns.
    """

    def __init__(self, work_dir: Path) -> None:
        work_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        command: list[str | Path] = [programs.toxiproxy(), "-host", LOOPBACK, "-port", str(self.port)]
        self.process = ServerProcess("toxiproxy", command, work_dir / "toxiproxy.log")

    def create_proxy(self, target_port: int) -> Proxy:
        """Open a port that leads to a loopback port."""
        port = free_port()
        name = f"to-{target_port}-by-{port}"
        listen, upstream = f"{LOOPBACK}:{port}", f"{LOOPBACK}:{target_port}"
        self.ask("POST", "/proxies", {"name": name, "listen": listen, "upstream": upstream, "enabled": True})
        return Proxy(self, name, port)

    def ask(self, method: str, path: str, document: Mapping[str, object] | None = None) -> None:
        """Send one request to toxiproxy's own HTTP interface.

        Raises:
            RuntimeError: It was refused; the message has the answer.
        """
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.port}{path}", body, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - our own URL
        except urllib.error.HTTPError as refused:
            raise RuntimeError(f"toxiproxy refused {method} {path}: {refused.read().decode()}") from refused
