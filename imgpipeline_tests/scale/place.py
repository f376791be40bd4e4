"""A site on several machines: servers, code server, daemon, webserver, and two workers in separate process groups."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import yaml

from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.defs.site import MODULE, REPOSITORY, Site, make_site
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.postgres_server import USER, PostgresServer
from imgpipeline_tests.servers.processes import ServerProcess
from imgpipeline_tests.servers.redis_server import RedisServer
from imgpipeline_tests.servers.s3_server import S3Server

TOPIC = "frames"
LANES = 4
LOCATION = "imgpipeline"
DEPLOYED = REPOSITORY / "deploy" / "celery"
_QUEUES = "detection,tables,redetection"
_START_LIMIT_S = 120.0


@dataclass
class ScalePlace:
    """Everything that the scale test may kill."""

    redis: RedisServer
    site: Site
    store: ObjectStore
    instance: dg.DagsterInstance
    code_server: ServerProcess
    daemon: ServerProcess
    webserver: ServerProcess
    code_port: int
    web_port: int
    workers: dict[str, ServerProcess] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The webserver's GraphQL address."""
        return f"http://{LOOPBACK}:{self.web_port}/graphql"

    def start_control(self) -> None:
        """Start the code server, the webserver and the daemon."""
        self.code_server.start(lambda: self.code_server.listens_on(self.code_port), limit_s=_START_LIMIT_S)
        self.webserver.start(lambda: self.webserver.listens_on(self.web_port), limit_s=_START_LIMIT_S)
        self.start_daemon()

    def start_daemon(self) -> None:
        _start(self.daemon, b"MonitoringDaemon")

    def start_worker(self, name: str, *, queues: str = _QUEUES, runs: int = 4) -> None:
        """Start a worker, the first time or again."""
        if name not in self.workers:
            program = self.site.programs / "celery"
            command = [program, "-A", "dagster_celery.app", "worker", "-Q", queues, "-n", name, "-c", str(runs)]
            log = self.site.home / f"worker-{name.partition('@')[0]}.log"
            self.workers[name] = self._process(name, [*command, "-l", "INFO"], log)
        _start(self.workers[name], b"ready.")

    def stop(self) -> None:
        """Kill all processes of Dagster and Celery, with what they started."""
        for process in (*self.workers.values(), self.daemon, self.webserver, self.code_server):
            process.kill_group()

    def _process(self, name: str, command: list[str | Path], log: Path) -> ServerProcess:
        return ServerProcess(name, command, log, environment=self.site.environment)


def _start(process: ServerProcess, ready: bytes) -> None:
    """Start a process, and wait until it has logged something."""
    begin = process.log_path.stat().st_size if process.log_path.exists() else 0
    process.start(lambda: ready in process.log_path.read_bytes()[begin:], limit_s=_START_LIMIT_S)


@contextmanager
def open_place(
    folder: Path, *, dagster_yaml: Path = DEPLOYED / "dagster.yaml", linger_s: float = 10
) -> Iterator[ScalePlace]:
    """Start the servers, and make a site whose processes do not run yet; end all of them afterwards.

    The variables of the site are set in this process too, which opens Dagster's storage.
    """
    with contextlib.ExitStack() as servers:
        broker = servers.enter_context(KafkaBroker(folder / "kafka"))
        bucket = servers.enter_context(S3Server(folder / "s3")).create_bucket("scale")
        postgres = servers.enter_context(PostgresServer())
        redis = servers.enter_context(RedisServer(folder / "redis"))
        broker.create_topic(TOPIC, partitions=LANES)
        postgres.create_database("dagster")
        variables = {
            **bucket.environment(),
            "PYTHONPATH": f"{REPOSITORY}:{DEPLOYED}",
            "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "IMGPIPELINE_KAFKA_TOPIC": TOPIC,
            "IMGPIPELINE_LANES": str(LANES),
            "IMGPIPELINE_LINGER_S": str(linger_s),
            "IMGPIPELINE_DETECT_WORKERS": "1",
            "IMGPIPELINE_MODEL_THREADS": "1",
            "IMGPIPELINE_CELERY_BROKER": redis.url(0),
            "IMGPIPELINE_CELERY_BACKEND": redis.url(1),
            "DAGSTER_POSTGRES_HOST": postgres.host,
            "DAGSTER_POSTGRES_PORT": str(postgres.port),
            "DAGSTER_POSTGRES_DB": "dagster",
            "DAGSTER_POSTGRES_USER": USER,
            "DAGSTER_POSTGRES_PASSWORD": "the server trusts this machine",
            "DAGSTER_LOGS_BUCKET": bucket.name,
            "DAGSTER_LOGS_ENDPOINT": bucket.endpoint,
        }
        site = make_site(folder / "dagster", variables, dagster_yaml)
        os.environ.update({**variables, "DAGSTER_HOME": str(site.home)})
        _shorten_rounds(site.home / "dagster.yaml")
        instance = servers.enter_context(dg.DagsterInstance.from_config(str(site.home)))
        place = _make_place(site, redis, instance)
        servers.callback(place.stop)
        yield place


def _shorten_rounds(path: Path) -> None:
    configuration = yaml.safe_load(path.read_text())
    configuration["run_monitoring"]["poll_interval_seconds"] = 5
    path.write_text(yaml.safe_dump(configuration))


def _make_place(site: Site, redis: RedisServer, instance: dg.DagsterInstance) -> ScalePlace:
    code_port, web_port = free_port(), free_port()
    workspace, server = site.home / "workspace.yaml", {"host": LOOPBACK, "port": code_port, "location_name": LOCATION}
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    at = ["-h", LOOPBACK, "-p"]
    commands: dict[str, list[str | Path]] = {
        "code-server": [site.programs / "dagster", "code-server", "start", *at, str(code_port), "-m", MODULE],
        "daemon": [site.programs / "dagster-daemon", "run", "-w", workspace],
        "webserver": [site.programs / "dagster-webserver", *at, str(web_port), "-w", workspace],
    }
    processes = [
        ServerProcess(name, command, site.home / f"{name}.log", environment=site.environment)
        for name, command in commands.items()
    ]
    return ScalePlace(redis, site, open_store(site.settings), instance, *processes, code_port, web_port)
