"""The demo's broker: librdkafka's mock cluster, in memory, on a free loopback port.

It runs in this process (`EmbeddedBroker`) or in a separate one (`broker_process`, or `python -m
imgpipeline.stream.embedded --port-file FILE`), which a daemon, a webserver and commands can share. It has the requested
topics and one more topic whose name identifies each start, because this broker has no topic ids and its cluster id is
an address in memory.

It does not report its protocol version (`IMGPIPELINE_KAFKA_API_VERSION` must be 2.3), cannot create topics for
kafka-python, and gives every topic four partitions. All data is lost when it ends, and a partition keeps only its last
5 MB or 100,000 batches (about 12,000 announcements). Do not use it in production.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from confluent_kafka import Producer

from imgpipeline.errors import PermanentError

API_VERSION = "2.3"
"""Protocol version that kafka-python must use with this broker."""
_START_MARK = "imgpipeline-start-"
_READY_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 10.0
_PARENT_CHECK_S = 0.5


class EmbeddedBroker:
    """One broker in memory; a context manager.

    Guarantees:
        Inside the context, the topics exist and records can be written and read. Afterwards nothing is left.
    """

    def __init__(self, topics: Sequence[str] = ("frames",)) -> None:
        """Prepares a broker with these topics."""
        self._topics = tuple(topics)
        self._cluster: Producer | None = None
        self.bootstrap_servers = ""

    def __enter__(self) -> Self:
        self._cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        broker = next(iter(self._cluster.list_topics(timeout=_ANSWER_TIMEOUT_S).brokers.values()))
        self.bootstrap_servers = f"{broker.host}:{broker.port}"
        # A request for a topic creates it. Every client learns from the mark's name which start of the broker this is.
        for topic in (*self._topics, f"{_START_MARK}{uuid4().hex}"):
            self._cluster.list_topics(topic, timeout=_ANSWER_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster = None

    def environment(self) -> dict[str, str]:
        """Returns the settings with which other processes of this machine find the broker."""
        return _environment(self.bootstrap_servers)


def start_id(topics: Iterable[str]) -> str | None:
    """Returns the id of this start of an embedded broker; None for any other broker."""
    marks = sorted(name.removeprefix(_START_MARK) for name in topics if name.startswith(_START_MARK))
    return marks[0] if marks else None


@contextlib.contextmanager
def broker_process(folder: Path, topics: Sequence[str] = ("frames",)) -> Iterator[dict[str, str]]:
    """Runs a broker in a separate process, which also ends when this process dies.

    Args:
        folder: For the log and the file with the port; created if missing.

    Yields:
        The settings with which other processes of this machine find the broker.

    Raises:
        PermanentError: The broker did not start; the message names its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port_file, log_file = folder / "broker.port", folder / "broker.log"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "imgpipeline.stream.embedded", "--port-file", str(port_file)]
    command += ["--parent-pid", str(os.getpid()), *(f"--topic={topic}" for topic in topics)]
    with log_file.open("ab") as log:
        # A separate session, so that Ctrl-C in the terminal ends the clients first; then this context ends the broker.
        process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield _environment(_await_address(process, port_file, log_file))
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(bootstrap_servers: str) -> dict[str, str]:
    return {
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "IMGPIPELINE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "IMGPIPELINE_KAFKA_API_VERSION": API_VERSION,
        # The mock's transactional batches have wrong checksums.
        "IMGPIPELINE_KAFKA_TRANSACTIONS": "false",
    }


def _await_address(process: subprocess.Popen[bytes], port_file: Path, log_file: Path) -> str:
    until = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        if port_file.exists():
            return port_file.read_text(encoding="utf-8")
        time.sleep(0.02)
    ended = process.poll()
    raise PermanentError(
        "The embedded broker did not start "
        + (f"(exit status {ended})." if ended is not None else f"within {_READY_TIMEOUT_S:g} s."),
        next_step=f"check {log_file}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a broker until SIGTERM, Ctrl-C or the end of the parent process."""
    parser = argparse.ArgumentParser(
        "python -m imgpipeline.stream.embedded", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--port-file", type=Path, required=True, help="receives host:port when the broker is ready")
    parser.add_argument("--topic", action="append", help="a topic to create; may be repeated; default: frames")
    parser.add_argument("--parent-pid", type=int, default=os.getppid(), help="end when this parent process ends")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with EmbeddedBroker(options.topic or ("frames",)) as broker:
        # Written to another file and renamed, so that a waiting process never reads half an address.
        draft = options.port_file.with_name(options.port_file.name + ".new")
        draft.write_text(broker.bootstrap_servers, encoding="utf-8")
        draft.replace(options.port_file)
        while os.getppid() == options.parent_pid and not stopped.wait(_PARENT_CHECK_S):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
