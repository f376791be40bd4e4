"""A ClickHouse: the current engine (chdb) behind a stand-in for the server's HTTP interface.

No server of a usable age can be installed: Debian's is of 2018 and too old for the client, which asks it for columns
that it does not have.
"""

import base64
import sys
import urllib.request
from pathlib import Path

from imgpipeline_tests.servers.chdb_http import PASSWORD, USER
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess


class ClickHouseServer(Server):
    """One engine with its data in `work_dir`, and one user, who needs a password; a context manager."""

    def __init__(self, work_dir: Path) -> None:
        self.port = free_port()
        work_dir.mkdir(parents=True, exist_ok=True)
        module = "imgpipeline_tests.servers.chdb_http"
        command: list[str | Path] = [sys.executable, "-m", module, str(self.port), work_dir / "data"]
        self.process = ServerProcess("clickhouse", command, work_dir / "clickhouse.log")

    def ask(self, query: str, database: str = "default") -> bytes:
        """Execute a query by HTTP, as any client might, and return the answer.

        Raises:
            urllib.error.HTTPError: It is refused.
        """
        request = urllib.request.Request(f"http://{LOOPBACK}:{self.port}/?database={database}", query.encode())
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own URL
            return bytes(answer.read())
