"""A real Apache Kafka of one node (KRaft), with the listeners that a test asks for.

Promises a broker that is ready when `start` returns, that never makes topics by itself, and that comes back with
its data on the same ports after a kill. Messages and their contract do not belong here.
"""

import base64
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from kafka import KafkaAdminClient

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.certificates import Certificates, make_certificates
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess

Listener = Literal["PLAINTEXT", "SASL_PLAINTEXT", "SSL", "SASL_SSL"]

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,\
SASL_SSL:SASL_SSL,SSL:SSL
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
background.threads=2
log.cleaner.dedupe.buffer.size=2097152
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.segment.delete.delay.ms=1000
file.delete.delay.ms=1000
initial.broker.registration.timeout.ms=60000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""
"""One node, small caches, and short times: with Kafka's own session time-out a broker comes back 12 s after a
SIGKILL, with 2 s it does after 4 s. Records are kept however old their times are: tests make them of past days, and
lose records on purpose only (`delete_records`, or a topic with a retention of its own)."""


class KafkaBroker(Server):
    """One broker with its data in `work_dir`; a context manager.

    Guarantees:
        Ready when `start` returns (about 5 s the first time). There always is a PLAINTEXT listener. The SASL
        listeners take PLAIN and SCRAM-SHA-512 for the same `users`. `kill` keeps the data, `start` afterwards
        serves them on the same ports.
    """

    def __init__(
        self,
        work_dir: Path,
        *,
        listeners: Sequence[Listener] = ("PLAINTEXT",),
        users: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        heap_mb: int = 256,
    ) -> None:
        """Prepare a broker.

        Args:
            work_dir: Folder for its data, settings, certificates and log.
            listeners: What it listens for in addition to PLAINTEXT.
            users: Password of each user of the SASL listeners.
            properties: Broker settings that override the ones here.
            heap_mb: The JVM's largest heap, in megabytes.

        Raises:
            MissingProgramError: Java, Kafka's jars or (for TLS) openssl are missing.
        """
        work_dir.mkdir(parents=True, exist_ok=True)
        self.work_dir = work_dir
        self.users = dict(users or {})
        self.ports = {name: free_port() for name in dict.fromkeys(("PLAINTEXT", *listeners))}
        self.certificates: Certificates | None = None
        if {"SSL", "SASL_SSL"} & self.ports.keys():
            self.certificates = make_certificates(work_dir / "certificates")
        jars = programs.kafka_jars() / "*"
        self._java: list[str | Path] = [programs.java(), f"-Xmx{heap_mb}m", "-Xms64m", *_JVM, "-cp", jars]
        self._properties_path = work_dir / "server.properties"
        self._properties_path.write_text(self._render(properties or {}))
        command = [*self._java, "kafka.Kafka", self._properties_path]
        self.process = ServerProcess("Kafka", command, work_dir / "kafka.log")

    @property
    def bootstrap_servers(self) -> str:
        """Address of the PLAINTEXT listener."""
        return self.address("PLAINTEXT")

    def address(self, listener: Listener) -> str:
        """Return the address of one listener: `127.0.0.1:port`."""
        return f"{LOOPBACK}:{self.ports[listener]}"

    def admin(self) -> KafkaAdminClient:
        """Return a new admin client; its caller closes it."""
        return KafkaAdminClient(bootstrap_servers=self.bootstrap_servers)

    def create_topic(self, name: str, *, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Make a topic and return when the broker knows it."""
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(config or {})}
        admin = self.admin()
        try:
            admin.create_topics({name: wanted}, wait_for_metadata=True)
        finally:
            admin.close()

    def start(self) -> None:
        """Start the broker; errors as for all servers."""
        if not (self.work_dir / "data").exists():
            self._format()
        super().start()

    def is_ready(self) -> bool:
        """Tell whether it listens on all ports."""
        return all(self.process.listens_on(port) for port in self.ports.values())

    def _render(self, overrides: Mapping[str, str]) -> str:
        controller = f"{LOOPBACK}:{free_port()}"
        advertised = ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in self.ports.items())
        own = {
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"{advertised},CONTROLLER://{controller}",
            "advertised.listeners": advertised,
            "log.dirs": str(self.work_dir / "data"),
        }
        if self.certificates is not None:
            own |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self.certificates.server_file)}
        for listener in ("SASL_PLAINTEXT", "SASL_SSL"):
            if listener in self.ports:
                own |= _sasl_properties(listener, self.users)
        return _PROPERTIES + "".join(f"{name}={value}\n" for name, value in (own | dict(overrides)).items())

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        command = [*self._java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", self._properties_path]
        for user, password in self.users.items():
            command += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's format ended with status {done.returncode}:\n{done.stdout}{done.stderr}")


_JVM = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)
"""What makes a JVM start quickly and stay small; the tests never need its top speed."""


def _sasl_properties(listener: str, users: Mapping[str, str]) -> dict[str, str]:
    prefix = f"listener.name.{listener.lower()}"
    module = "org.apache.kafka.common.security"
    accounts = " ".join(f'user_{user}="{password}"' for user, password in users.items())
    return {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        f"{prefix}.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {accounts};",
        f"{prefix}.scram-sha-512.sasl.jaas.config": f"{module}.scram.ScramLoginModule required;",
    }
