"""A stand-in for the Kubernetes API, as far as Dagster's launcher uses it: keeps Jobs, and records every request.

It follows the paths and verbs of the API's documentation (Kubernetes API Concepts) and checks no rights; `used_rights`
says which ones a cluster would have asked for.
"""

import json
import re
import ssl
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import yaml

_PATH = re.compile(
    r"/apis?/(?P<group>batch/)?v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>\w+)(/(?P<name>[^/?]+))?(/(?P<sub>\w+))?"
)


class KubernetesApi:
    """An HTTP server, or with a certificate (key and chain in PEM) one with TLS; a context manager."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.reset()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Forget everything."""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.used_rights: set[tuple[str, str, str]] = set()
        """Group, resource and verb of each request, as a Role names them."""
        self.namespaces: set[str] = set()
        """Where Jobs were made."""
        self.is_away = False
        """Whether every request fails, as while the control plane is upgraded."""

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._server.server_port

    def write_kubeconfig(self, path: Path) -> None:
        """Write a file with which clients find this server."""
        url = f"http://127.0.0.1:{self.port}"
        context = {"name": "here", "context": {"cluster": "here", "user": "here"}}
        users, clusters = [{"name": "here", "user": {}}], [{"name": "here", "cluster": {"server": url}}]
        path.write_text(
            yaml.safe_dump({"current-context": "here", "contexts": [context], "users": users, "clusters": clusters})
        )

    def answer(self, method: str, path: str, body: Any) -> tuple[HTTPStatus, Any]:
        """Return status and document of a request."""
        found = _PATH.match(path)
        if found is None or self.is_away:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"kind": "Status", "code": 503}
        resource, name, sub = found["resource"], found["name"], found["sub"]
        verb = {"POST": "create", "DELETE": "delete"}.get(method, "get" if name else "list")
        self.used_rights.add(((found["group"] or "").rstrip("/"), f"{resource}/{sub}" if sub else resource, verb))
        if sub == "log":
            return HTTPStatus.OK, "the log of a pod"
        kept = {each["metadata"]["name"]: each for each in self.pods} if resource == "pods" else self.jobs
        if verb == "create":
            self.jobs[body["metadata"]["name"]] = {"status": {"active": 1, "startTime": "2026-01-09T12:00:00Z"}, **body}
            self.namespaces.add(found["namespace"])
            return HTTPStatus.CREATED, body
        if verb == "list":
            return HTTPStatus.OK, {"kind": "List", "items": [] if resource == "events" else list(kept.values())}
        if name not in kept:
            return HTTPStatus.NOT_FOUND, {"kind": "Status", "code": 404}
        document = kept[name]
        if verb == "delete":
            self.pods = [each for each in self.pods if each is not document]
            self.jobs = {each: job for each, job in self.jobs.items() if job is not document}
        return HTTPStatus.OK, document

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                status, document = api.answer(self.command, self.path, body)
                answer = document.encode() if isinstance(document, str) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names that the base class calls

            def log_message(self, *_: object) -> None:
                """Requests are recorded, not logged."""

        return Handler
