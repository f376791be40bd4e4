"""Where the soak takes place: Kafka, S3 behind a proxy, and a daemon with its runs, all real and all killable."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import dagster as dg

from imgpipeline.defs.detection_job import JOB_NAME
from imgpipeline.settings import Settings
from imgpipeline_tests.defs.site import Site, make_site
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Server
from imgpipeline_tests.servers.toxiproxy import Proxy, ToxiproxyServer

TOPIC = "frames"
PARTITIONS = 3
LANES = 2
TAKEOVER_S = 20
"""Longer than a run takes to start on a busy machine; else takeovers would end each other."""


@dataclass
class Place:
    """Everything that the soak may break."""

    broker: KafkaBroker
    """The broker."""
    store: S3Server
    """The object store."""
    proxy: Proxy
    """Between pipeline and object store."""
    site: Site
    """DAGSTER_HOME, the daemon, and the settings that lead through the proxy."""
    direct: Settings
    """Settings that lead to the store itself, for producers and for the proof."""
    killed_daemons: int = 0
    """How many daemons were killed."""
    _stopped: set[int] = field(default_factory=set)

    def start_daemon(self) -> None:
        """Starts one more daemon with its code server."""
        self.site.start_daemon(limit_s=120)

    def kill_daemons(self) -> None:
        """Kills all daemons, their code servers and their runs, as a machine that loses power would."""
        for daemon in self.site.daemons:
            daemon.kill_group()
            self.killed_daemons += 1
        self.site.daemons.clear()

    def run_processes(self) -> list[int]:
        """Returns the process ids of the detection runs that are at work."""
        return [pid for pid in self.site.detection_processes() if Path(f"/proc/{pid}").exists()]

    def run_counts(self) -> dict[str, int]:
        """Returns how many detection runs there are by status."""
        return Counter(record.dagster_run.status.value for record in self.site.runs(job=JOB_NAME))

    def build_counts(self) -> dict[str, int]:
        """Returns how many builds of tables there are by status."""
        return Counter(run.status.value for run in self._builds(live=False))

    def live_builds(self) -> int:
        """Returns how many builds of tables wait or run."""
        return len(self._builds(live=True))

    def _builds(self, *, live: bool) -> list[dg.DagsterRun]:
        runs = (record.dagster_run for record in self.site.runs(live=live))
        return [run for run in runs if run.job_name != JOB_NAME]


@contextmanager
def open_place(folder: Path) -> Iterator[Place]:
    """Starts the servers and a daemon, and ends all of them."""
    with contextlib.ExitStack() as servers:
        broker = servers.enter_context(KafkaBroker(folder / "kafka"))
        store = servers.enter_context(S3Server(folder / "s3"))
        proxies = servers.enter_context(ToxiproxyServer(folder / "toxiproxy"))
        broker.create_topic(TOPIC, partitions=PARTITIONS)
        bucket = store.create_bucket("soak")
        proxy = proxies.create_proxy(store.port)
        through = replace(bucket, endpoint=f"http://{proxy.address}")
        site = make_site(
            folder / "dagster",
            {
                **through.environment(),
                "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
                "IMGPIPELINE_KAFKA_TOPIC": TOPIC,
                "IMGPIPELINE_LANES": str(LANES),
                "IMGPIPELINE_TAKEOVER_S": str(TAKEOVER_S),
                "IMGPIPELINE_LINGER_S": "10",
                "IMGPIPELINE_MAX_RUN_S": "60",
                "IMGPIPELINE_DETECT_WORKERS": "1",
            },
        )
        place = Place(broker, store, proxy, site, site.settings.model_copy(update={"s3_endpoint": bucket.endpoint}))
        servers.callback(site.stop)
        place.start_daemon()
        yield place
