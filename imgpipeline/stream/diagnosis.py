"""Finds out why Kafka does not answer, and names the setting to change.

kafka-python reports a closed port, a wrong certificate authority, a disabled mechanism and a wrong password in the same
way ("unable to bootstrap"). So this module checks the ports in the order in which a connection is made: name, TCP, TLS,
login, and the addresses that the brokers advertise. If the protocol of the settings fails, it tries the others. This
takes at most about 6 s; no message contains a password.
"""

import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from kafka import errors as kafka_python
from pydantic import SecretStr

from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.settings import Settings
from imgpipeline.settings.kafka import KafkaProtocol

if TYPE_CHECKING:
    from confluent_kafka import KafkaError as LibrdkafkaError

_LOGIN_TIMEOUT_S = 3.0
_PROBE_TIMEOUT_S = 1.5
"""How long another protocol is tried."""
ANSWER_TIMEOUT_S = 0.25
_CONNECT_TIMEOUT_S = 1.5
"""How long a port may take to accept a connection, and a name server to answer."""
_NO_LOGIN = "Request not valid in current SASL state"
"""What a broker answers to a login at a port without logins."""
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
class _Reply:
    """What librdkafka learned at a port with one security protocol."""

    brokers: list[Server] | None = None
    """The addresses that the brokers advertise; None if they did not answer."""
    is_login_refused: bool = False
    is_kafka: bool = True
    said: str = ""
    """The errors, in librdkafka's words."""

    @property
    def is_protocol(self) -> bool:
        """Whether the port speaks the protocol, even if it refuses the login."""
        return self.brokers is not None or self.is_login_refused


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
        or _missing_login(settings)
        or _diagnose_protocol(settings, server)
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
    except OSError:
        return None  # no TLS; what the port speaks instead is found below
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


def _missing_login(settings: Settings) -> ConfigurationError | None:
    protocol = settings.kafka_security_protocol
    given = {"USERNAME": settings.kafka_username, "PASSWORD": settings.kafka_password}
    names = " and ".join(f"IMGPIPELINE_KAFKA_{name}" for name, value in given.items() if not value)
    if not protocol.startswith("SASL") or not names:
        return None
    return ConfigurationError(f"{_PROTOCOL} is {protocol}, but {names} is not set.", next_step=f"set {names}")


def _diagnose_protocol(settings: Settings, server: Server) -> ImgpipelineError | None:
    protocol = settings.kafka_security_protocol
    reply = _ask_librdkafka(_librdkafka_options(settings), _LOGIN_TIMEOUT_S)
    if reply.brokers is not None:
        return _unreachable_advertised(server, reply.brokers)
    if reply.is_login_refused:
        return _refused_login(settings, server, reply.said)
    others = [other for other in get_args(KafkaProtocol) if other != protocol]
    with ThreadPoolExecutor(len(others)) as pool:
        replies = pool.map(lambda other: _ask_librdkafka(_probe_options(settings, other), _PROBE_TIMEOUT_S), others)
        spoken = [other for other, answer in zip(others, replies, strict=True) if answer.is_protocol]
    if spoken:
        login = f", and {_LOGIN}" if spoken[0].startswith("SASL") and not protocol.startswith("SASL") else ""
        return ConfigurationError(
            f"{_PROTOCOL} is {protocol}, but {server} speaks {spoken[0]}.",
            next_step=f"set {_PROTOCOL} to {spoken[0]}{login}",
        )
    if not reply.is_kafka:
        return ConfigurationError(
            f"{server} answers, but does not speak Kafka.", next_step=f"set {_SERVERS} to the broker's port"
        )
    # The answer may have come after the time-out and still have sent the client to the advertised addresses.
    learned = [Server(match["host"], int(match["port"])) for match in _LEARNED_BROKER.finditer(reply.said)]
    return _unreachable_advertised(server, learned) or _no_broker(server, reply.said or "it does not answer in time")


def _refused_login(settings: Settings, server: Server, said: str) -> ConfigurationError:
    mechanisms = re.search(r"supported mechanisms: ([A-Z0-9-][A-Z0-9, -]*)", said)
    if mechanisms:
        return ConfigurationError(
            f"{_MECHANISM} is {settings.kafka_sasl_mechanism}, which {server} does not support; "
            f"it supports {mechanisms[1].strip()}.",
            next_step=f"set {_MECHANISM} to one of them",
        )
    return ConfigurationError(
        f"Kafka at {server} refuses the login of {_user(settings)} by {settings.kafka_sasl_mechanism}: "
        "the user name or the password is wrong.",
        next_step=f"correct {_LOGIN}",
    )


def _ask_librdkafka(options: dict[str, Any], limit_s: float) -> _Reply:
    """Connects with librdkafka, which names causes, until it gets an answer or an error that will not change."""
    # Imported here, because librdkafka is needed only after a failure.
    from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415 - see above
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - see above

    problems: list[LibrdkafkaError] = []
    options["error_cb"] = problems.append
    client = AdminClient(options)
    until = time.monotonic() + limit_s
    while True:
        try:
            brokers = client.list_topics(timeout=ANSWER_TIMEOUT_S).brokers.values()
            return _Reply([Server(str(broker.host), int(broker.port)) for broker in brokers])
        except KafkaException as error:
            client.poll(0)
            codes = {problem.code() for problem in [*problems, error.args[0]]}
        # librdkafka names these codes with an underscore; there are no other names.
        is_refused, is_odd = KafkaError._AUTHENTICATION in codes, KafkaError._BAD_MSG in codes  # noqa: SLF001 - as above
        if is_refused or time.monotonic() >= until:
            unclear = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - as above
            said = "; ".join(dict.fromkeys(problem.str() for problem in problems if problem.code() != unclear))
            return _Reply(None, is_refused and _NO_LOGIN not in said, not is_odd, said)


def _no_broker(server: Server, why: str) -> TransientError:
    return TransientError(
        f"{server} accepts connections, but does not answer as a broker: {why}.",
        next_step=f"check the broker's log, {_SERVERS} and {_PROTOCOL}",
    )


def _librdkafka_options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
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


def _probe_options(settings: Settings, protocol: KafkaProtocol) -> dict[str, Any]:
    """Returns the options to try another protocol: with a made-up login, because nothing is known of the port."""
    made_up = {"kafka_username": "imgpipeline", "kafka_password": SecretStr("none"), "kafka_ca_file": None}
    options = _librdkafka_options(settings.model_copy(update={"kafka_security_protocol": protocol, **made_up}))
    return options | ({"enable.ssl.certificate.verification": False} if protocol.endswith("SSL") else {})


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
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    with (
        socket.create_connection((server.host, server.port), _CONNECT_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=server.host),
    ):
        pass
