"""Checks a broker's port without a Kafka client: name, TCP, TLS with a trusted certificate, and the required login.

Each check takes a few seconds at most. `diagnosis` concludes which setting is wrong.
"""

import contextlib
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONNECT_TIMEOUT_S = 1.5
"""How long a port may take to accept a connection, and a name server to answer."""
ANSWER_TIMEOUT_S = 2.0
"""How long a port may take to answer one request."""

_SASL_HANDSHAKE = 17
_UNSUPPORTED_MECHANISM = 33
_ILLEGAL_SASL_STATE = 34
_LARGEST_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Server:
    """One entry of the bootstrap servers."""

    host: str
    """Name or address."""
    port: int
    """TCP port, 1 to 65535."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LoginAnswer:
    """The answer of a port to a request for a login mechanism."""

    kind: Literal["taken", "other_mechanism", "no_login", "tls", "closed", "silent", "not_kafka"]
    """`taken`: the mechanism may be used; `other_mechanism`: it is not enabled; `no_login`: Kafka without SASL;
    `tls`: the answer was TLS; `closed`: the connection was closed; `silent`: no answer in time; `not_kafka`: another
    protocol."""
    mechanisms: tuple[str, ...] = ()
    """Enabled mechanisms, if the broker listed them."""


def parse_servers(text: str) -> list[Server]:
    """Parses a list of bootstrap servers.

    Args:
        text: `host:port`, separated by commas; `[::1]:9092` for an IPv6 address.

    Returns:
        At least one server.

    Raises:
        ValueError: An entry is not `host:port`.
    """
    servers = []
    for entry in (part.strip() for part in text.split(",")):
        host, colon, port = entry.rpartition(":")
        if not (colon and host and port.isdecimal() and 0 < int(port) < 65_536):
            raise ValueError(f"{entry!r} is not host:port")
        servers.append(Server(host.strip("[]"), int(port)))
    return servers


def why_unreachable(server: Server) -> str | None:
    """Returns why no TCP connection to a server can be opened; None if one can."""
    unresolved = _why_unresolved(server.host)
    if unresolved:
        return unresolved
    try:
        socket.create_connection((server.host, server.port), CONNECT_TIMEOUT_S).close()
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT_S:g} s (a firewall, or a wrong address)"
    except ConnectionRefusedError:
        return "the port is closed: nothing listens there"
    except OSError as error:
        return error.strerror or str(error)
    return None


def _why_unresolved(host: str) -> str | None:
    # The resolver has no time-out, so it runs in a thread that may outlive this call.
    answers: queue.Queue[str | None] = queue.Queue()

    def resolve() -> None:
        try:
            socket.getaddrinfo(host, None)
            answers.put(None)
        except (OSError, UnicodeError):
            answers.put(f"the name {host!r} cannot be resolved")

    threading.Thread(target=resolve, daemon=True).start()
    try:
        return answers.get(timeout=CONNECT_TIMEOUT_S)
    except queue.Empty:
        return f"the name {host!r} was not resolved within {CONNECT_TIMEOUT_S:g} s"


def check_tls(server: Server, ca_file: Path | None) -> None:
    """Opens and closes a TLS connection as a client would.

    Raises:
        OSError: The authority's file cannot be read, or the connection failed.
        ssl.SSLError: The port does not speak TLS, or the certificate is not accepted (`SSLCertVerificationError`).
    """
    with _connect(server, _tls_context(ca_file)):
        pass


def ask_for_login(server: Server, mechanism: str, *, tls: bool, ca_file: Path | None) -> LoginAnswer:
    """Asks a port whether it requires a login and supports a mechanism, without sending a user name or password.

    Args:
        server: The server to ask.
        mechanism: For example `PLAIN`.
        tls: Whether to use TLS.
        ca_file: File of the authority, for TLS.
    """
    body = _text(mechanism)
    head = struct.pack(">hhi", _SASL_HANDSHAKE, 1, 1) + _text("imgpipeline")
    try:
        with _connect(server, _tls_context(ca_file) if tls else None) as connection:
            connection.sendall(struct.pack(">i", len(head + body)) + head + body)
            first = _read(connection, 4)
            if first[:2] == b"\x15\x03":
                return LoginAnswer("tls")
            (size,) = struct.unpack(">i", first)
            if not 6 <= size <= _LARGEST_ANSWER_BYTES:
                return LoginAnswer("not_kafka")
            return _parse_answer(_read(connection, size))
    except TimeoutError:
        return LoginAnswer("silent")
    except OSError:
        return LoginAnswer("closed")


def _parse_answer(data: bytes) -> LoginAnswer:
    try:
        _, code, count = struct.unpack_from(">ihi", data)
        mechanisms, position = [], 10
        for _ in range(count):
            (length,) = struct.unpack_from(">h", data, position)
            mechanisms.append(data[position + 2 : position + 2 + length].decode("ascii"))
            position += 2 + length
    except (struct.error, UnicodeDecodeError):
        return LoginAnswer("not_kafka")
    if code == _ILLEGAL_SASL_STATE:
        return LoginAnswer("no_login")
    if code == _UNSUPPORTED_MECHANISM:
        return LoginAnswer("other_mechanism", tuple(sorted(mechanisms)))
    return LoginAnswer("taken", tuple(sorted(mechanisms))) if code == 0 else LoginAnswer("not_kafka")


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode("ascii")


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)


@contextlib.contextmanager
def _connect(server: Server, context: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), CONNECT_TIMEOUT_S) as plain:
        plain.settimeout(ANSWER_TIMEOUT_S)
        if context is None:
            yield plain
            return
        with context.wrap_socket(plain, server_hostname=server.host) as secured:
            yield secured


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError("the other side closed the connection")
        data += part
    return data
