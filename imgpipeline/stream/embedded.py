"""The demo's broker: librdkafka's mock cluster, in memory, on a free loopback port.

It runs in this process (`embedded_broker`) or in a separate one (`broker_process`), which a daemon, a webserver and
commands can share. It has the requested topics and one more topic whose name identifies each start, because this broker
has no topic ids and its cluster id is an address in memory.

It does not report its protocol version (`IMGPIPELINE_KAFKA_API_VERSION` must be 2.3), cannot create topics for
kafka-python, and gives every topic four partitions. All data is lost when it ends, and a partition keeps only its last
5 MB or 100,000 batches (about 12,000 announcements). Do not use it in production.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Producer

from imgpipeline.errors import PermanentError

API_VERSION = "2.3"
"""Protocol version that kafka-python must use with this broker."""
_START_MARK = "imgpipeline-start-"
_ANSWER_TIMEOUT_S = 10.0


@contextlib.contextmanager
def embedded_broker(topics: Sequence[str] = ("frames",)) -> Iterator[dict[str, str]]:
    """Runs a broker with these topics in this process; yields as `broker_process`. Afterwards nothing is left."""
    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    broker = next(iter(cluster.list_topics(timeout=_ANSWER_TIMEOUT_S).brokers.values()))
    # A request for a topic creates it. Every client learns from the mark's name which start of the broker this is.
    for topic in (*topics, f"{_START_MARK}{uuid4().hex}"):
        cluster.list_topics(topic, timeout=_ANSWER_TIMEOUT_S)
    yield _environment(f"{broker.host}:{broker.port}")


def start_id(topics: Iterable[str]) -> str | None:
    """Returns the id of this start of the broker with these topics; None for any other broker."""
    marks = sorted(name.removeprefix(_START_MARK) for name in topics if name.startswith(_START_MARK))
    return marks[0] if marks else None


@contextlib.contextmanager
def broker_process(folder: Path, topics: Sequence[str] = ("frames",)) -> Iterator[dict[str, str]]:
    """Runs a broker in a separate process, which also ends when this process dies.

    Args:
        folder: For the log; created if missing.

    Yields:
        The settings with which other processes of this machine find the broker.

    Raises:
        PermanentError: The broker did not start; the message names its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / "broker.log"
    with log_file.open("ab") as log:
        # A separate session, so that Ctrl-C in the terminal ends the clients first; then this context ends the broker.
        process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
            [sys.executable, "-m", "imgpipeline.stream.embedded", *topics],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            if not address:
                raise PermanentError(
                    f"The embedded broker did not start (exit status {process.wait()}).", next_step=f"check {log_file}"
                )
            yield _environment(address)
        finally:
            process.kill()


def _environment(bootstrap_servers: str) -> dict[str, str]:
    return {
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "IMGPIPELINE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "IMGPIPELINE_KAFKA_API_VERSION": API_VERSION,
        # The mock's transactional batches have wrong checksums.
        "IMGPIPELINE_KAFKA_TRANSACTIONS": "false",
    }


def main() -> None:
    """Runs a broker with the topics in the arguments, and writes its address to stdout, until stdin ends."""
    with embedded_broker(sys.argv[1:]) as environment:
        sys.stdout.write(f"{environment['IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS']}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
