"""A real OpenSearch of one node, without its security plugin: no login, no TLS.

The runner in its jars takes a port from 9201 to 9299 only. So that two sessions never take the same one, a name in
Linux's abstract namespace of sockets claims it, which is gone with its process, however that ends.
"""

import json
import random
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess

_PORTS = range(9201, 9300)
_CONFIG = """\
network.host: {host}
transport.port: {transport_port}
discovery.type: single-node
cluster.routing.allocation.disk.threshold_enabled: false
"""


class OpenSearchServer(Server):
    """One node with a heap of 512 MB; a context manager.

    Guarantees:
        Ready when `start` returns (about 5 s on an idle machine). It needs no more than Java's runtime: no compiler.
    """

    def __init__(self, work_dir: Path) -> None:
        config = work_dir / "node_1" / "config" / "opensearch.yml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(_CONFIG.format(host=LOOPBACK, transport_port=free_port()))
        self.port, self._claim = _claimed_port()
        java: list[str | Path] = [programs.java(), "-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-Xshare:auto"]
        java += ["-XX:TieredStopAtLevel=1", "-cp", f"{programs.opensearch_jars()}/*"]
        runner = ["org.codelibs.opensearch.runner.OpenSearchRunner", "-basePath", str(work_dir), "-disableESLogger"]
        options = ["-numOfNode", "1", "-clusterName", "tests", "-baseHttpPort", str(self.port - 1)]
        self.process = ServerProcess("OpenSearch", [*java, *runner, *options], work_dir / "opensearch.log")

    @property
    def url(self) -> str:
        """The server's URL, which needs no login."""
        return f"http://{LOOPBACK}:{self.port}"

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """Send a request without any client, and return the answer.

        Raises:
            urllib.error.HTTPError: The server refused it.
        """
        body = None if document is None else json.dumps(document).encode()
        with urllib.request.urlopen(self._request(method, path, body), timeout=60) as answer:  # noqa: S310 - our own URL
            return json.loads(answer.read() or b"null")

    def _request(self, method: str, path: str, body: bytes | None) -> urllib.request.Request:
        json_type = {"Content-Type": "application/json"}
        return urllib.request.Request(self.url + path, body, json_type, method=method)  # noqa: S310 - our own URL

    def documents(self, index: str, query: str) -> Iterator[dict[str, Any]]:
        """Yield the documents that a query in Lucene's syntax finds, by scrolling; none if there is no such index."""
        self.ask("POST", f"/{index}/_refresh?ignore_unavailable=true")
        wanted = {"query": {"query_string": {"query": query}}, "size": 1000, "sort": ["_doc"]}
        page = self.ask("POST", f"/{index}/_search?scroll=1m&ignore_unavailable=true", wanted)
        while page["hits"]["hits"]:
            yield from (hit["_source"] for hit in page["hits"]["hits"])
            page = self.ask("POST", "/_search/scroll", {"scroll": "1m", "scroll_id": page["_scroll_id"]})
        if "_scroll_id" in page:
            self.ask("DELETE", "/_search/scroll", {"scroll_id": page["_scroll_id"]})

    def clear(self) -> None:
        """Delete all indices."""
        for each in self.ask("GET", "/_cat/indices?format=json&h=index"):
            self.ask("DELETE", f"/{each['index']}")

    def is_ready(self) -> bool:
        if not self.process.listens_on(self.port):
            return False
        try:
            return self.ask("GET", "/_cluster/health")["status"] in {"yellow", "green"}
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._claim.close()


def _claimed_port() -> tuple[int, socket.socket]:
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        claim, probe = socket.socket(socket.AF_UNIX), socket.socket()
        try:
            claim.bind(f"\0opensearch-of-tests-{port}")
            probe.bind((LOOPBACK, port))
        except OSError:
            claim.close()
        else:
            return port, claim
        finally:
            probe.close()
    raise OSError(f"no free port between {_PORTS.start} and {_PORTS.stop - 1}")
