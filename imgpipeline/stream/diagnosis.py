"""Finds out why Kafka does not answer, and names the setting to change.

kafka-python reports a closed port, a wrong certificate authority, a disabled mechanism and a wrong password in the same
way ("unable to bootstrap"). So this module checks the ports in the order in which a connection is made: name, TCP, TLS,
login, and the addresses that the brokers advertise. This takes at most about 4 s; no message contains a password.
"""

import contextlib
import queue
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kafka import errors as kafka_python

from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError as LibrdkafkaError

_LOGIN_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 0.25
_CONNECT_TIMEOUT_S = 1.5
"""How long a port may take to accept a connection, and a name server to answer."""
_PORT_TIMEOUT_S = 2.0
"""How long a port may take to answer one request."""
_SASL_HANDSHAKE = 17
_UNSUPPORTED_MECHANISM = 33
_ILLEGAL_SASL_STATE = 34
_LARGEST_ANSWER_BYTES = 65_536
# librdkafka names an advertised broker host:port/number, and a configured one host:port/bootstrap.
_LEARNED_BROKER = re.compile(r"(?:^|\s|://)(?P<host>[^\s/]+):(?P<port>\d+)/\d+: ")
_DENIED = (
    kafka_python.TopicAuthorizationFailedError,
    kafka_python.GroupAuthorizationFailedError,
    kafka_python.ClusterAuthorizationFailedError,
    kafka_python.TransactionalIdAuthorizationFailedError,
)
_SERVERS = "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS"
_PROTOCOL = "IMGPIPELINE_KAFKA_SECURITY_PROTOCOL"
_MECHANISM = "IMGPIPELINE_KAFKA_SASL_MECHANISM"
_LOGIN = "IMGPIPELINE_KAFKA_USERNAME and IMGPIPELINE_KAFKA_PASSWORD"
_AUTHORITY = "IMGPIPELINE_KAFKA_CA_FILE"


@dataclass(frozen=True, slots=True)
class Server:
    """One entry of the bootstrap servers."""

    host: str
    port: int

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


class UnreachableBrokerError(ConfigurationError):
    """No broker answers at the configured addresses."""


def explain_kafka_failure(settings: Settings, error: BaseException) -> ImgpipelineError:
    """Finds out why Kafka could not be used.

    Returns:
        `ConfigurationError` naming the setting to change, `PermanentError` if the user lacks a right, else
        `TransientError`.
    """
    if isinstance(error, ImgpipelineError):
        return error
    where = f"Kafka at {settings.kafka_bootstrap_servers}"
    if isinstance(error, _DENIED):
        return PermanentError(
            f"{where} does not permit this for {_user(settings)}: {type(error).__name__}.",
            next_step=f"grant the user the permission, or set {_LOGIN} to a user who has it",
        )
    if isinstance(error, kafka_python.UnknownTopicOrPartitionError):
        return missing_topic(settings, ", ".join(settings.kafka_topics))
    if isinstance(error, kafka_python.IncompatibleBrokerVersion):
        return PermanentError(
            f"{where} does not support this: {_one_line(error)}.",
            next_step="use a newer broker (the demo's broker cannot create topics after its start)",
        )
    try:
        servers = parse_servers(settings.kafka_bootstrap_servers)
    except ValueError as wrong:
        return ConfigurationError(
            f"{_SERVERS} is {settings.kafka_bootstrap_servers!r}: {wrong}.",
            next_step=f"set {_SERVERS} to host:port, several separated by commas",
        )
    step = "try again; if the error remains, check the broker's log"
    if "bootstrap" in str(error) and not settings.kafka_api_version:
        step += ", or set IMGPIPELINE_KAFKA_API_VERSION for a broker that does not report it (the demo's: 2.3)"
    return _diagnose(settings, servers) or TransientError(
        f"{where} can be reached, but the request failed: {_one_line(error)}.", next_step=step
    )


def missing_topic(settings: Settings, topic: str) -> ConfigurationError:
    """Returns the error for a topic that does not exist."""
    return ConfigurationError(
        f"There is no topic {topic!r} at {settings.kafka_bootstrap_servers}.",
        next_step=f"run `imgpipeline topics create` with IMGPIPELINE_KAFKA_TOPIC={topic}, or set an existing topic",
    )


def _diagnose(settings: Settings, servers: list[Server]) -> ImgpipelineError | None:
    with ThreadPoolExecutor(min(len(servers), 16)) as pool:
        reasons = dict(zip(servers, pool.map(why_unreachable, servers), strict=True))
    reachable = [server for server in servers if reasons[server] is None]
    if not reachable:
        return UnreachableBrokerError(
            "Kafka cannot be reached: " + "; ".join(f"{server}: {why}" for server, why in reasons.items()) + ".",
            next_step=f"start the broker, or set {_SERVERS} to the address where it listens",
        )
    server = reachable[0]
    return (
        (_diagnose_tls(settings, server) if settings.kafka_security_protocol.endswith("SSL") else None)
        or _diagnose_login(settings, server)
        or _ask_librdkafka(settings, server)
    )


def _diagnose_tls(settings: Settings, server: Server) -> ConfigurationError | None:
    if settings.kafka_ca_file:
        try:
            ssl.create_default_context(cafile=str(settings.kafka_ca_file))
        except OSError as error:
            return ConfigurationError(
                f"{_AUTHORITY} is {str(settings.kafka_ca_file)!r}, which cannot be used: {_one_line(error)}.",
                next_step=f"set {_AUTHORITY} to the PEM file of the authority that signed the brokers' certificates",
            )
    try:
        check_tls(server, settings.kafka_ca_file)
    except ssl.SSLCertVerificationError as error:
        return _refused_certificate(settings, server, error)
    except OSError as error:
        return _no_tls(settings, server, getattr(error, "reason", None) or _one_line(error))
    return None


def _refused_certificate(settings: Settings, server: Server, error: ssl.SSLCertVerificationError) -> ConfigurationError:
    why = error.verify_message
    if error.verify_code in (62, 64):  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
        return ConfigurationError(
            f"The certificate of {server} is for another name: {why}.",
            next_step=f"set {_SERVERS} to the name in the broker's certificate",
        )
    if error.verify_code in (9, 10):  # not yet valid, or expired
        return ConfigurationError(
            f"The certificate of {server} is not valid now: {why}.",
            next_step="renew the broker's certificate, or correct this machine's clock",
        )
    trusted = str(settings.kafka_ca_file) if settings.kafka_ca_file else "the system's authorities"
    return ConfigurationError(
        f"The certificate of {server} was not signed by {trusted}: {why}.",
        next_step=f"set {_AUTHORITY} to the PEM file of the authority that signed the brokers' certificates",
    )


def _no_tls(settings: Settings, server: Server, why: str) -> ConfigurationError:
    plain = settings.kafka_security_protocol.replace("SSL", "PLAINTEXT")
    return ConfigurationError(
        f"{_PROTOCOL} is {settings.kafka_security_protocol}, but {server} does not speak TLS ({why}).",
        next_step=f"set {_SERVERS} to the broker's TLS port, or {_PROTOCOL} to {plain}",
    )


def _diagnose_login(settings: Settings, server: Server) -> ImgpipelineError | None:
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    tls = protocol.endswith("SSL")
    wants_login = protocol.startswith("SASL")
    if wants_login and not (settings.kafka_username and settings.kafka_password):
        given = {"USERNAME": settings.kafka_username, "PASSWORD": settings.kafka_password}
        names = " and ".join(f"IMGPIPELINE_KAFKA_{name}" for name, value in given.items() if not value)
        return ConfigurationError(f"{_PROTOCOL} is {protocol}, but {names} is not set.", next_step=f"set {names}")
    answer = ask_for_login(server, mechanism, tls=tls, ca_file=settings.kafka_ca_file)
    if answer.kind == "other_mechanism" and wants_login:
        enabled = ", ".join(answer.mechanisms) or "none"
        return ConfigurationError(
            f"{_MECHANISM} is {mechanism}, which {server} does not support; it supports {enabled}.",
            next_step=f"set {_MECHANISM} to one of them",
        )
    if answer.kind == "silent":
        return _no_broker(server, "it accepts a request but does not answer")
    return _wrong_protocol(protocol, server, answer)


def _wrong_protocol(protocol: str, server: Server, answer: LoginAnswer) -> ConfigurationError | None:
    wants_login, tls = protocol.startswith("SASL"), protocol.endswith("SSL")
    end = "SSL" if tls else "PLAINTEXT"
    what, better = {
        ("tls", False): ("speaks TLS", "SASL_SSL" if wants_login else "SSL or SASL_SSL"),
        ("no_login", True): ("accepts no login", end),
        ("taken", False): ("requires a login", f"SASL_{end}, and {_LOGIN}"),
        ("other_mechanism", False): ("requires a login", f"SASL_{end}, and {_LOGIN}"),
    }.get((answer.kind, tls if answer.kind == "tls" else wants_login), (None, None))
    if what:
        return ConfigurationError(
            f"{_PROTOCOL} is {protocol}, but {server} {what}.", next_step=f"set {_PROTOCOL} to {better}"
        )
    if answer.kind == "not_kafka":
        return ConfigurationError(
            f"{server} answers, but does not speak Kafka.", next_step=f"set {_SERVERS} to the broker's port"
        )
    return None


def _ask_librdkafka(settings: Settings, server: Server) -> ImgpipelineError | None:
    """Logs in with librdkafka, which names causes, and checks the addresses that the brokers advertise."""
    # Imported here, because librdkafka is needed only after a failure.
    from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415 - see above
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - see above

    problems: list[LibrdkafkaError] = []
    client = AdminClient(_librdkafka_options(settings, problems))
    until = time.monotonic() + _LOGIN_TIMEOUT_S
    while True:
        try:
            brokers = client.list_topics(timeout=ANSWER_TIMEOUT_S).brokers.values()
            return _unreachable_advertised(server, [Server(str(b.host), int(b.port)) for b in brokers])
        except KafkaException as error:
            client.poll(0)
            codes = {problem.code() for problem in [*problems, error.args[0]]}
        if KafkaError._AUTHENTICATION in codes:  # noqa: SLF001 - so librdkafka names the code; there is no other name
            return ConfigurationError(
                f"Kafka at {server} refuses the login of {_user(settings)} by {settings.kafka_sasl_mechanism}: "
                "the user name or the password is wrong.",
                next_step=f"correct {_LOGIN}",
            )
        if time.monotonic() >= until:
            # The answer may have come after the time-out and still have sent the client to the advertised addresses.
            learned = [match for problem in problems if (match := _LEARNED_BROKER.search(problem.str()))]
            unreachable = _unreachable_advertised(server, [Server(m["host"], int(m["port"])) for m in learned])
            if unreachable:
                return unreachable
            said = "; ".join(dict.fromkeys(problem.str() for problem in problems)) or "the cause is unknown"
            return _no_broker(server, said)


def _no_broker(server: Server, why: str) -> TransientError:
    return TransientError(
        f"{server} accepts connections, but does not answer as a broker: {why}.",
        next_step=f"check the broker's log, {_SERVERS} and {_PROTOCOL}",
    )


def _librdkafka_options(settings: Settings, problems: "list[LibrdkafkaError]") -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "error_cb": problems.append,
        "log_level": 0,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 200,
        "socket.connection.setup.timeout.ms": 2000,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        options["sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["sasl.username"] = settings.kafka_username
        options["sasl.password"] = settings.kafka_password and settings.kafka_password.get_secret_value()
    if settings.kafka_security_protocol.endswith("SSL") and settings.kafka_ca_file:
        options["ssl.ca.location"] = str(settings.kafka_ca_file)
    return options


def _unreachable_advertised(server: Server, advertised: Iterable[Server]) -> ConfigurationError | None:
    for broker in advertised:
        why = why_unreachable(broker)
        if why:
            return ConfigurationError(
                f"{server} can be reached, but advertises {broker}, which cannot be reached: {why}.",
                next_step="make that name resolvable here, or correct advertised.listeners in the broker's settings",
            )
    return None


def _user(settings: Settings) -> str:
    return f"user {settings.kafka_username!r}" if settings.kafka_username else "a user without login"


def _one_line(error: BaseException) -> str:
    line = (str(error) or type(error).__name__).split("\n", 1)[0].rstrip(".")
    return line if len(line) <= 200 else line[:197] + "..."


def parse_servers(text: str) -> list[Server]:
    """Parses bootstrap servers: `host:port`, separated by commas; `[::1]:9092` for an IPv6 address.

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
        socket.create_connection((server.host, server.port), _CONNECT_TIMEOUT_S).close()
    except TimeoutError:
        return f"no answer within {_CONNECT_TIMEOUT_S:g} s (a firewall, or a wrong address)"
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
        return answers.get(timeout=_CONNECT_TIMEOUT_S)
    except queue.Empty:
        return f"the name {host!r} was not resolved within {_CONNECT_TIMEOUT_S:g} s"


def check_tls(server: Server, ca_file: Path | None) -> None:
    """Opens and closes a TLS connection as a client would.

    Raises:
        OSError: The authority's file cannot be read, or the connection failed.
        ssl.SSLError: The port does not speak TLS, or the certificate is not accepted (`SSLCertVerificationError`).
    """
    with _connect(server, _tls_context(ca_file)):
        pass


def ask_for_login(server: Server, mechanism: str, *, tls: bool, ca_file: Path | None) -> LoginAnswer:
    """Asks a port whether it requires a login and supports a mechanism, without sending a user name or password."""
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
    with socket.create_connection((server.host, server.port), _CONNECT_TIMEOUT_S) as plain:
        plain.settimeout(_PORT_TIMEOUT_S)
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
