"""Where the benchmarks run: one broker, one S3 server and one toxiproxy on this machine, for all of them."""

import contextlib
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.pictures import PictureSet
from benchmarks.processes import cpu_s
from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer

START = datetime(2026, 1, 9, tzinfo=UTC)
"""Time of the first frame of every backlog."""


@dataclass(frozen=True, slots=True)
class ServerCost:
    """CPU seconds of the servers, which share the machine with what is measured."""

    kafka_cpu_s: float
    """Of the broker."""
    s3_cpu_s: float
    """Of the S3 server."""


@dataclass(frozen=True, slots=True)
class Place:
    """The servers, and a folder for files."""

    folder: Path
    """For everything that is written; removed at the end."""
    kafka: KafkaBroker
    """A real broker."""
    s3: S3Server
    """A real S3 server on a folder."""
    toxiproxy: ToxiproxyServer
    """Delays answers where a benchmark asks for it."""

    def settings(self, name: str, **more: object) -> Settings:
        """Makes a topic and a bucket of their own, and returns settings that name them.

        Args:
            name: What they are for; part of their names.
            **more: Further settings.
        """
        unique = f"{name}-{uuid.uuid4().hex[:8]}"
        self.kafka.create_topic(unique)
        bucket = self.s3.create_bucket(unique)
        return load_settings(
            **{
                "kafka_bootstrap_servers": self.kafka.bootstrap_servers,
                "kafka_topic": unique,
                "kafka_group": unique,
                "store_url": bucket.url,
                "s3_endpoint": bucket.endpoint,
                "s3_access_key_id": bucket.access_key_id,
                "s3_secret_access_key": bucket.secret_access_key,
                **more,
            }
        )

    def again(self, settings: Settings, name: str) -> Settings:
        """Returns settings over the same topic and bucket whose ledger begins at offset 0 again.

        Images that were announced by whole URLs can be read from there too.
        """
        fresh = f"{name}-{uuid.uuid4().hex[:8]}"
        return settings.model_copy(
            update={
                "store_url": f"{bucket_url(settings)}/{fresh}",
                "kafka_group": fresh,
                "allowed_image_locations": (f"{bucket_url(settings)}/images",),
            }
        )

    def server_pids(self) -> dict[str, int]:
        """Returns the process ids of broker and store."""
        return {"kafka": self.kafka.process.pid, "s3": self.s3.process.pid}


def bucket_settings(bucket: S3Bucket, endpoint: str | None = None) -> Settings:
    """Returns settings with a bucket as the store, reached through another endpoint where one is given."""
    return load_settings(
        store_url=bucket.url,
        s3_endpoint=endpoint or bucket.endpoint,
        s3_access_key_id=bucket.access_key_id,
        s3_secret_access_key=bucket.secret_access_key,
    )


def bucket_url(settings: Settings) -> str:
    """Returns the bucket of a store's URL."""
    return "/".join(settings.store_url.split("/")[:3])


def server_cost(pids: Mapping[str, int]) -> ServerCost:
    """Reads what the servers have cost so far."""
    return ServerCost(cpu_s(pids["kafka"]), cpu_s(pids["s3"]))


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


def store_pictures(settings: Settings, pictures: PictureSet) -> list[str]:
    """Stores pictures and returns their URLs."""
    store, urls = open_store(settings), []
    for number, jpeg in enumerate(pictures.jpegs):
        key = f"images/street/{pictures.name}/{number:04d}.jpg"
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
            time = START + timedelta(seconds=number * step_s)
            announcer.announce(FrameMessage("street", urls[number % len(urls)], time, frame_number=number))


def say(text: str) -> None:
    """Tells on stderr how far the benchmarks are."""
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S}  {text}\n")
    sys.stderr.flush()
