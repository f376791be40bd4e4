"""Where the benchmarks run: one broker, one S3 server and one toxiproxy for all of them, and how much they measure."""

import contextlib
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.programs import HADOOP_VERSION, KAFKA_VERSION, VERSITYGW_VERSION
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer

REPOSITORY = Path(__file__).resolve().parents[1]
"""This checkout."""
_START = datetime(2026, 1, 9, tzinfo=UTC)
_PACKAGES = (
    "onnxruntime",
    "opencv-python",
    "kafka-python",
    "obstore",
    "duckdb",
    "dagster",
    "boto3",
    "pandas",
    "polars",
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    is_quick: bool
    """A glance instead of figures to quote."""
    before: tuple[Path, ...] = ()
    """Folders of older checkouts, oldest first, which some benchmarks measure as well."""
    sources: tuple[str, ...] = ()
    """Beginnings of the names of the sources that are measured; empty: all."""

    def of(self, full: T, quick: T) -> T:
        """Returns the first value, or the second one for a glance."""
        return quick if self.is_quick else full

    @property
    def checkouts(self) -> dict[str, Path]:
        """The checkouts by the names that tables give them, oldest first."""
        return {**{f"commit {commit_of(folder)}": folder for folder in self.before}, "this commit": REPOSITORY}


@dataclass(frozen=True, slots=True)
class Place:
    """The servers, and a folder for files."""

    folder: Path
    """For everything that is written; removed at the end."""
    kafka: KafkaBroker
    s3: S3Server
    toxiproxy: ToxiproxyServer
    """Delays answers where a benchmark asks for it."""

    def settings(self, name: str, *, partitions: int = 1, **more: object) -> Settings:
        """Makes a topic and a bucket, and returns settings that name them.

        Args:
            name: What they are for; part of their names.
            partitions: Of the topic.
            **more: Further settings.
        """
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        self.kafka.create_topic(unique, partitions=partitions)
        topic = {"kafka_topics": (unique,), "kafka_group": unique}
        servers = {"kafka_bootstrap_servers": self.kafka.bootstrap_servers, **_bucket(self.s3.create_bucket(unique))}
        return load_settings(**{**servers, **topic, **more})

    def again(self, settings: Settings, name: str) -> Settings:
        """Returns settings over the same topic and bucket whose ledger begins at offset 0 again.

        Images that were announced by whole URLs can be read from there too.
        """
        fresh = f"{name}-{uuid.uuid4().hex[:8]}"
        bucket = "/".join(settings.store_url.split("/")[:3])
        return settings.model_copy(
            update={
                "store_url": f"{bucket}/{fresh}",
                "kafka_group": fresh,
                "allowed_image_locations": (f"{bucket}/images",),
            }
        )

    def server_pids(self) -> dict[str, int]:
        """Returns the process ids of broker and store."""
        return {"kafka": self.kafka.process.pid, "s3": self.s3.process.pid}


def bucket_settings(bucket: S3Bucket, endpoint: str | None = None) -> Settings:
    """Returns settings with a bucket as the store, reached through another endpoint where one is given."""
    return load_settings(**_bucket(bucket) | ({"s3_endpoint": endpoint} if endpoint else {}))


def _bucket(bucket: S3Bucket) -> dict[str, object]:
    return {
        "store_url": bucket.url,
        "s3_endpoint": bucket.endpoint,
        "s3_access_key_id": bucket.access_key_id,
        "s3_secret_access_key": bucket.secret_access_key,
    }


@contextlib.contextmanager
def open_place(folder: Path) -> Iterator[Place]:
    """Starts the servers.

    Raises:
        MissingProgramError: One of them is not installed: `make servers`.
    """
    with (
        KafkaBroker(folder / "kafka", heap_mb=512) as kafka,
        S3Server(folder / "s3") as s3,
        ToxiproxyServer(folder / "toxiproxy") as toxiproxy,
    ):
        yield Place(folder, kafka, s3, toxiproxy)


def store_pictures(settings: Settings, jpegs: tuple[bytes, ...]) -> list[str]:
    """Stores pictures and returns their URLs."""
    store, urls = open_store(settings), []
    for number, jpeg in enumerate(jpegs):
        key = f"images/street/{number:04d}.jpg"
        store.put(key, jpeg)
        urls.append(f"{settings.store_url}/{key}")
    return urls


def announce_backlog(settings: Settings, urls: list[str], frames: int, *, step_s: float = 0.04) -> None:
    """Announces stored pictures again and again, each time as a frame of another moment.

    Args:
        settings: Name the topic.
        urls: Of the pictures.
        frames: How many announcements.
        step_s: From frame to frame, by the frames' own clock.
    """
    with Announcer(settings) as announcer:
        for number in range(frames):
            time = _START + timedelta(seconds=number * step_s)
            announcer.announce(FrameMessage("street", urls[number % len(urls)], time, frame_number=number))


def say(text: str) -> None:
    """Reports on stderr how far the benchmarks are."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S}  {text}\n")
    sys.stderr.flush()


def describe_machine(effort: Effort) -> dict[str, str]:
    """Returns lines about this machine and this moment."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    size = effort.of("full", "quick")
    return {
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {size}, commit {commit_of(REPOSITORY)}",
        "processor": f"{_processor()}, {os.cpu_count()} cores, shared by the run, Kafka and the S3 server",
        "memory": f"{memory_gib:.0f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f} processes at work in the minute before",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "servers": f"Kafka {KAFKA_VERSION}, versitygw {VERSITYGW_VERSION}, Hadoop {HADOOP_VERSION}",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def commit_of(checkout: Path) -> str:
    """Returns the short name of the commit that a folder has checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)  # noqa: S603 - git
    return found.stdout.strip() or "unknown"
