"""Status pages over HTTP: Prometheus metrics and health of running sources, and the server for such pages.

Metric names follow the Prometheus conventions: counters end in `_total`, times are in seconds.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings.loading import read_variable
from imgpipeline.sources.board import LATENCY_BOUNDS_S, Board, RunningSource, SourceState
from imgpipeline.sources.protocol import Settled

_PREFIX = "imgpipeline_source"
_BAD = (SourceState.RESTARTING, SourceState.TAKEN_OVER, SourceState.OFFLINE)


class SourceCollector(Collector):
    """Collects the metrics of a board's sources."""

    def __init__(self, board: Board) -> None:
        """Takes the board of the sources."""
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """Returns the current metrics."""
        received = CounterMetricFamily(f"{_PREFIX}_received_frames", "Frames received.", labels=["source"])
        frames = CounterMetricFamily(f"{_PREFIX}_frames", "Frames by outcome.", labels=["source", "outcome", "reason"])
        reconnects = CounterMetricFamily(f"{_PREFIX}_reconnects", "Reconnects and restarts.", labels=["source"])
        queue = GaugeMetricFamily(f"{_PREFIX}_queue_frames", "Frames that wait to be stored.", labels=["source"])
        up = GaugeMetricFamily(
            f"{_PREFIX}_up", "1 while the source delivers frames or waits for them.", labels=["source"]
        )
        last = GaugeMetricFamily(
            f"{_PREFIX}_last_frame_timestamp_seconds", "When the last frame arrived.", labels=["source"]
        )
        latency = HistogramMetricFamily(
            f"{_PREFIX}_publish_seconds", "From received to announced in Kafka.", labels=["source"]
        )
        for status in self._board.statuses():
            name = [status.source]
            received.add_metric(name, status.received)
            reconnects.add_metric(name, status.reconnects)
            queue.add_metric(name, status.queue)
            up.add_metric(name, float(status.state is SourceState.ONLINE))
            if status.last_frame:
                last.add_metric(name, status.last_frame.timestamp())
            for outcome, reason, count in _outcomes(status):
                frames.add_metric([status.source, outcome, reason], count)
            latency.add_metric(name, _buckets(status), status.latency_sum_s)
        return (received, frames, reconnects, queue, up, last, latency)


def serve_metrics(
    board: Board, port: int, address: str = "127.0.0.1", *, also: Collector | None = None
) -> AbstractContextManager[int]:
    """Serves `/metrics` and `/health` while the context lasts.

    Args:
        port: TCP port; 0: any free one.
        also: Collects more metrics for the same page.

    Raises:
        ConfigurationError: The port cannot be opened.
    """
    registry = CollectorRegistry()
    registry.register(SourceCollector(board))
    if also is not None:
        registry.register(also)

    def page_of(path: str) -> StatusPage:
        if path == "/metrics":
            return StatusPage(generate_latest(registry), CONTENT_TYPE_LATEST)
        if path == "/health":
            problems = problems_of(board)
            ignored = {status.source: status.ignored for status in board.statuses() if status.ignored}
            body = json.dumps({"healthy": not problems, "problems": problems, "ignored_files": ignored}).encode()
            return StatusPage(body, "application/json", HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK)
        return StatusPage(b"/metrics or /health\n", status=HTTPStatus.NOT_FOUND)

    return serve_pages(page_of, port, address)


def serve_health(port: int, address: str, name: str) -> AbstractContextManager[int]:
    """Serves the health page of classic services, `NAME is running!`, while the context lasts.

    Args:
        name: Name of the service if `SERVICE_NAME` is not set.

    Raises:
        ConfigurationError: The port cannot be opened.
    """
    page = StatusPage(f"{read_variable('SERVICE_NAME') or name} is running!".encode())
    absent = StatusPage(b"/\n", status=HTTPStatus.NOT_FOUND)
    return serve_pages(lambda path: page if path == "/" else absent, port, address)


def problems_of(board: Board) -> dict[str, str]:
    """Returns the problem of each source that has one."""
    statuses = board.statuses()
    waiting = {status.source: f"waits for {status.blocked}" for status in statuses if status.blocked}
    return waiting | {one.source: one.error or one.state.value for one in statuses if one.state in _BAD}


def _outcomes(status: RunningSource) -> Iterator[tuple[str, str, int]]:
    for how, count in status.settled.items():
        if how is not Settled.DROPPED:
            yield how.value, "", count
    for reason, count in status.dropped.items():
        yield Settled.DROPPED.value, reason, count


def _buckets(status: RunningSource) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*map(str, LATENCY_BOUNDS_S), "+Inf"), status.latency_counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


@dataclass(frozen=True, slots=True)
class StatusPage:
    """The response to a request."""

    body: bytes
    content_type: str = "text/plain"
    status: HTTPStatus = HTTPStatus.OK


@contextmanager
def serve_pages(page_of: Callable[[str], StatusPage], port: int, address: str) -> Iterator[int]:
    """Serves pages to GET and HEAD requests in a thread while the context lasts.

    Args:
        page_of: Returns the page of a path; called in the threads of the requests.
        port: TCP port; 0: any free one.

    Raises:
        ConfigurationError: The port cannot be opened.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = page_of(self.path)
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(page.body)

        def do_HEAD(self) -> None:  # some health checks ask only for the status
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Requests are not logged."""

    try:
        opened = ThreadingHTTPServer((address, port), Handler)
    except OSError as error:
        raise ConfigurationError(
            f"{address}:{port} cannot be opened: {error.strerror or error}.", next_step="choose another address or port"
        ) from error
    with opened as server:
        thread = threading.Thread(target=server.serve_forever, name="status pages", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
