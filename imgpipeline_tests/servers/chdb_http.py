"""ClickHouse's HTTP interface in front of chdb, the engine of ClickHouse as a library.

    python -m imgpipeline_tests.servers.chdb_http PORT FOLDER

A stand-in for a server: the engine, its tables and its errors are real, and so are the client and the wire format. What
is made here is what lies between them: the login of one user, the parameters of the URL, and the headers of an answer.
"""

import asyncio
import base64
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import chdb
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from imgpipeline_tests.servers.ports import LOOPBACK

USER, PASSWORD = "test", "test-secret"
_OF_THE_TRANSPORT = {
    "query", "database", "query_id", "wait_end_of_query", "client_protocol_version", "send_progress_in_http_headers",
    "http_headers_progress_interval_ms", "enable_http_compression", "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
"""Parameters of the URL that are not settings of the engine."""
_REFUSED = "Code: 516. DB::Exception: {}: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"


class Engine:
    """One engine on a folder. Queries run at the same time, each on a connection of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._idle: dict[tuple[tuple[str, str], ...], list[Any]] = defaultdict(list)
        self._root = chdb.connect(str(folder))

    def execute(self, query: str, parameters: dict[str, str], data: Path | None) -> bytes:
        """Execute a query; `data` is a file with the rows of an INSERT."""
        if data:
            head, form = query.rsplit("FORMAT", 1)
            query = f"{head} FROM INFILE '{data}' FORMAT {form}"
        with self._connection(parameters) as connection:
            return bytes(connection.query(query, "TabSeparated").bytes())

    @contextmanager
    def _connection(self, parameters: dict[str, str]) -> Iterator[Any]:
        idle = self._idle[tuple(sorted(parameters.items()))]
        connection = idle.pop() if idle else self._connect(parameters)
        yield connection
        idle.append(connection)

    def _connect(self, parameters: dict[str, str]) -> Any:
        connection = chdb.connect(str(self._folder))
        for name, value in parameters.items():
            connection.query(f'USE "{value}"' if name == "database" else f"SET {name} = '{value}'")
        return connection


async def answer(request: Request) -> Response:
    """Answer one query as a server does."""
    user, _, password = (
        base64.b64decode(request.headers.get("authorization", "").partition(" ")[2]).decode().partition(":")
    )
    if (user, password) != (USER, PASSWORD):
        return refusal(_REFUSED.format(user), 403)
    parameters = dict(request.query_params)
    with tempfile.NamedTemporaryFile(prefix="chdb-rows-") as file:
        async for part in request.stream():
            file.write(part)
        file.flush()
        sent = Path(file.name)
        query = parameters.get("query") or sent.read_text()
        settings = {name: value for name, value in parameters.items() if name not in _OF_THE_TRANSPORT - {"database"}}
        try:
            engine: Engine = request.app.state.engine
            rows = await asyncio.to_thread(engine.execute, query, settings, sent if "query" in parameters else None)
        except (chdb.ChdbError, RuntimeError) as error:
            return refusal(str(error), 500)
    return Response(rows, headers={"X-ClickHouse-Timezone": "UTC"})


def refusal(message: str, status: int) -> Response:
    """Return an error as a server sends it."""
    code = re.search(r"Code: (\d+)", message)
    return PlainTextResponse(message, status, {"X-ClickHouse-Exception-Code": code[1] if code else "1002"})


def main(port: int, folder: Path) -> None:
    """Serve until killed."""
    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])
    app.state.engine = Engine(folder)
    uvicorn.run(app, host=LOOPBACK, port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
