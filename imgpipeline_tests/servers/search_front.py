"""A proxy that asks for a login in front of an OpenSearch, as OpenSearch's security plugin or as Elasticsearch 9.

Elasticsearch itself cannot be had here. The proxy follows what Elastic documents of version 9: the header
`X-Elastic-Product`, without which the client refuses a server; the media types `application/vnd.elasticsearch+json` and
`+x-ndjson` with `compatible-with=9` in requests and answers, and the refusal of others (REST API compatibility); the
form of `GET /` and of the 401. What it passes on is answered by the engine of OpenSearch.
"""

import base64
import json
import re
import ssl
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from imgpipeline_tests.servers.ports import LOOPBACK, free_port

_MEDIA_TYPE = re.compile(
    r"application/vnd\.elasticsearch\+(?P<form>json|x-ndjson)\s*;\s*compatible-with=(?P<version>\d+)"
)
_VERSION = "9.1.4"


class SearchFront:
    """One proxy; a context manager.

    Attributes:
        busy: How many bulk requests it refuses from now on, each of their items with status 429.
    """

    def __init__(self, target_port: int, login: str, *, elasticsearch: bool, certificate: Path | None = None) -> None:
        """Prepare a proxy.

        Args:
            target_port: The OpenSearch.
            login: The only one that it takes: `user:password`.
            elasticsearch: Whether it behaves like Elasticsearch.
            certificate: Its certificate with its key, for HTTPS.
        """
        self.port, self.busy = free_port(), 0
        front = self

        class Handler(_Handler):
            target = target_port
            owner = front
            authorization = "Basic " + base64.b64encode(login.encode()).decode()
            is_elasticsearch = elasticsearch

        self._server = ThreadingHTTPServer((LOOPBACK, self.port), Handler)
        self._server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: int
    owner: SearchFront
    authorization: str
    is_elasticsearch: bool

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        accepted, sent = (_MEDIA_TYPE.match(self.headers.get(name) or "") for name in ("Accept", "Content-Type"))
        if self.headers.get("Authorization") != self.authorization:
            self._refuse_login()
        elif not self.is_elasticsearch and (accepted or sent):
            self._answer_json(406, _error(406, "illegal_argument_exception", "Content-Type header is not supported"))
        elif any(found and found["version"] not in {"8", "9"} for found in (accepted, sent)) or (
            accepted and sent and accepted["version"] != sent["version"]
        ):
            self._answer_json(400, _error(400, "media_type_header_exception", "Invalid media-type value on headers"))
        elif self.owner.busy and self.path.endswith("/_bulk"):
            self.owner.busy -= 1
            self._refuse_items(len(body.splitlines()) // 2)
        else:
            plain = f"application/{sent['form']}" if sent else self.headers.get("Content-Type")
            self._pass_on(body, plain or "application/json", accepted and accepted[0])

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names that the server calls

    def _pass_on(self, body: bytes, content_type: str, media_type: str | None) -> None:
        connection = HTTPConnection(LOOPBACK, self.target, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, {"Content-Type": content_type})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if self.is_elasticsearch and self.path == "/" and content:
            told = json.loads(content)
            told["version"] = {"number": _VERSION, "build_flavor": "default", "lucene_version": "10.2.2"}
            content = json.dumps({**told, "tagline": "You Know, for Search"}).encode()
        self._answer(answer.status, content, media_type or answer.headers.get("Content-Type", "application/json"))

    def _refuse_login(self) -> None:
        if self.is_elasticsearch:
            user = base64.b64decode((self.headers.get("Authorization") or "").removeprefix("Basic ")).decode()
            name = user.partition(":")[0]
            reason = f"unable to authenticate user [{name}] for REST request [{self.path}]"
            self._answer_json(401, _error(401, "security_exception", reason))
        else:
            self._answer(401, b"Unauthorized", "text/plain")

    def _refuse_items(self, count: int) -> None:
        refused = {"status": 429, "error": {"type": "rejected_execution_exception", "reason": "rejected execution"}}
        self._answer_json(200, {"took": 1, "errors": True, "items": [{"index": refused} for _ in range(count)]})

    def _answer_json(self, status: int, document: Any) -> None:
        self._answer(status, json.dumps(document).encode(), "application/json")

    def _answer(self, status: int, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        if self.is_elasticsearch:
            self.send_header("X-Elastic-Product", "Elasticsearch")
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="security" charset="UTF-8"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the server gives it
        """Keep the output of tests clean."""


def _error(status: int, kind: str, reason: str) -> dict[str, Any]:
    cause = {"type": kind, "reason": reason}
    return {"error": {"root_cause": [cause], **cause}, "status": status}
