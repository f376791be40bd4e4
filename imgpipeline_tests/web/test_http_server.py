"""Clients that take their time do not keep others from the server."""

import contextlib
import socket
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from imgpipeline.web.http_server import page_url, run_until
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.threads import in_thread
from imgpipeline_tests.servers.waiting import wait_until

MORE_THAN_THE_SERVER_TAKES = 300
LARGE = 20_000_000


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:80/"), ("::1", "http://[::1]:80/")])
def test_the_url_of_an_ipv6_address_has_brackets(host, url):
    assert page_url(host, 80) == url


@pytest.fixture
def port() -> Iterator[int]:
    """A server with a small and a large answer."""
    app, port = FastAPI(), free_port()
    app.add_api_route("/small", lambda: Response(b"small"))
    app.add_api_route("/sent", read_all, methods=["POST"])
    app.add_api_route("/large", lambda: Response(bytes(LARGE)))
    with in_thread(lambda stop: run_until(app, LOOPBACK, port, stop, grace_s=1)):
        wait_until(lambda: status(port) == 200, limit_s=60, what="the server")
        yield port


async def read_all(request: Request) -> Response:
    return Response(await request.body())


def status(port: int) -> int | None:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/small", timeout=30).status_code
    except httpx.TransportError:
        return None


@contextlib.contextmanager
def connections(port: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Open more connections than the server takes, and send something through each."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(MORE_THAN_THE_SERVER_TAKES):
            client = stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=60))
            client.sendall(sent)
            clients.append(client)
        yield clients


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /small HTTP/1.1\r\nHost: 127", b"GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /sm",
     b"POST /sent HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10000\r\n\r\nThe beg",
     b"POST /sent HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nThe"],
    ids=["nothing", "half a head", "a request and a half", "half a body", "half a chunk"],
)  # fmt: skip
def test_clients_that_never_finish_a_request_are_disconnected(port, sent):
    with connections(port, sent):
        wait_until(lambda: status(port) == 200, limit_s=60, what="a place for others")


@pytest.mark.slow
def test_clients_that_never_read_responses_are_disconnected(port):
    with connections(port, b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
        wait_until(lambda: status(port) == 503, limit_s=60, what="a server without a free place")
        wait_until(lambda: status(port) == 200, limit_s=120, what="a place for others")


@pytest.mark.slow
def test_clients_that_do_not_read_responses_do_not_block_others(port):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((LOOPBACK, port), timeout=60)) for _ in range(20)]
        for client in clients:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for client in clients:
            assert client.recv(9) == b"HTTP/1.1 "
        assert status(port) == 200
        received = 9
        while received < LARGE:  # the answer is whole also for who reads late
            received += len(clients[0].recv(1 << 20))


def test_a_connection_answers_several_requests(port):
    with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as client:
        assert [client.get("/small").content for _ in range(3)] == [b"small"] * 3


def test_a_body_may_come_in_parts(port):
    with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=60) as client:
        assert client.post("/sent", content=iter([b"in ", b"parts"])).content == b"in parts"
        assert client.post("/sent", content=b"whole").content == b"whole"
