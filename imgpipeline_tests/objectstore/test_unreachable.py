"""An endpoint where no S3 server answers is named with host, port, cause and next step."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgpipeline.errors import ConfigurationError, ImgpipelineError, TransientError
from imgpipeline.objectstore import open_store
from imgpipeline.objectstore.unreachable import explain_unreachable
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.certificates import make_certificates
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.programs import MissingProgramError
from imgpipeline_tests.servers.s3_server import S3Bucket

Answer = Callable[[socket.socket], object]


@contextmanager
def listening(answer: Answer) -> Iterator[int]:
    """Listen on a port of loopback, and treat each connection by a function."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def error_at(endpoint: str) -> ImgpipelineError:
    settings = s3_settings(S3Bucket("bucket", endpoint, "key-canary", "secret-canary"), store_patience_s=0)
    with pytest.raises(ImgpipelineError) as caught:
        open_store(settings).get("frames/a")
    assert "canary" not in str(caught.value)
    assert str(caught.value.message).startswith("Could not read s3://bucket/lake/frames/a: the S3 server at ")
    return caught.value


def test_a_closed_port():
    endpoint = f"http://{LOOPBACK}:{free_port()}"
    error = error_at(endpoint)
    assert isinstance(error, TransientError)
    assert f"the S3 server at {endpoint} cannot be reached: the port is closed: nothing listens there" in error.message
    assert error.next_step is not None
    assert error.next_step.startswith("start the S3 server, or set IMGPIPELINE_S3_ENDPOINT to where it listens")
    assert "imgpipeline doctor" in error.next_step


def test_a_name_that_does_not_resolve():
    error = error_at("http://no-such-host.invalid:7070")
    assert isinstance(error, TransientError)
    assert "http://no-such-host.invalid:7070 cannot be reached: the host name cannot be resolved" in error.message
    assert "IMGPIPELINE_S3_ENDPOINT" in str(error.next_step)


def speak_ssh(connection: socket.socket) -> None:
    connection.recv(10)
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


def read_then_close(connection: socket.socket) -> None:
    """Close as servers do: closing with unread data would reset the connection, at any point of the handshake."""
    connection.recv(65_536)
    connection.close()


@pytest.mark.parametrize(
    ("scheme", "answer", "kind", "cause", "step"),
    [
        ("https", lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ConfigurationError, "not speak TLS", "http://"),
        ("http", speak_ssh, ConfigurationError, "does not speak HTTP", "IMGPIPELINE_S3_ENDPOINT"),
        ("http", socket.socket.close, TransientError, "closed the connection without an answer", "https://"),
        ("https", read_then_close, TransientError, "during the TLS handshake", "http://"),
    ],
    ids=["https to a plain port", "another protocol", "hangs up", "hangs up on TLS"],
)  # fmt: skip
def test_a_port_that_speaks_something_else(scheme: str, answer: Answer, kind: type, cause: str, step: str):
    with listening(answer) as port:
        error = error_at(f"{scheme}://{LOOPBACK}:{port}")
    assert isinstance(error, kind)
    assert f"{scheme}://{LOOPBACK}:{port} cannot be reached: " in error.message
    assert cause in error.message
    assert step in str(error.next_step)


@pytest.mark.medium
def test_a_certificate_of_an_unknown_authority(tmp_path: Path):
    try:
        certificates = make_certificates(tmp_path)
    except MissingProgramError as missing:
        pytest.skip(str(missing))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_file)
    with listening(lambda c: context.wrap_socket(c, server_side=True).recv(10)) as port:
        error = error_at(f"https://{LOOPBACK}:{port}")
    assert isinstance(error, ConfigurationError)
    assert "its TLS certificate is not accepted (UnknownIssuer)" in error.message
    assert "SSL_CERT_FILE" in str(error.next_step)


def said(url: str, kind: str) -> str:
    """Return the client's text of a failure that loopback cannot cause."""
    return f"Error performing GET {url} in 5.1s - HTTP error: error sending request\n\n{kind}"


def test_a_silent_address_on_a_default_port():
    error = explain_unreachable(said("https://bucket.s3.example.org/key", "kind: Timeout"), "Could not list s3://b/")
    assert error is not None
    assert "https://bucket.s3.example.org:443 cannot be reached: no answer in time" in error.message


def test_no_credentials_are_not_an_unreachable_server():
    error = explain_unreachable(
        said("http://169.254.169.254/latest/api/token", "kind: Timeout"), "Could not list s3://b/"
    )
    assert isinstance(error, ConfigurationError)
    assert "AWS_ACCESS_KEY_ID" in str(error.next_step)


def test_a_server_that_answered_is_reachable():
    text = "Error performing GET http://127.0.0.1:1/b/k in 5s - Server returned non-2xx status code: 503: TimedOut"
    assert explain_unreachable(text, "Could not read s3://b/k") is None
