"""A site that runs the whole pipeline: DAGSTER_HOME, a topic, a bucket, and Dagster's commands as processes.

Promises that nothing of the developer's own environment reaches those processes. What is tested belongs to the tests.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from imgpipeline.defs.detection_job import JOB_NAME
from imgpipeline.defs.run_tags import PROCESS_TAG, read_noted
from imgpipeline.ledger.reading import fix_ends
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.ports import free_port, listens
from imgpipeline_tests.servers.processes import ServerProcess
from imgpipeline_tests.servers.s3_server import S3Bucket
from imgpipeline_tests.servers.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
MODULE = os.environ.get("IMGPIPELINE_TEST_DEFINITIONS", "imgpipeline.definitions")
LIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass
class Site:
    """One DAGSTER_HOME with everything its processes need."""

    home: Path
    """DAGSTER_HOME, with a dagster.yaml in it."""
    variables: dict[str, str]
    """Environment variables of the pipeline."""
    settings: Settings
    """The same as settings."""
    daemons: list[ServerProcess] = field(default_factory=list)
    checkout: Path = REPOSITORY
    """The code that its processes run."""

    @property
    def programs(self) -> Path:
        """Path of the commands: in the checkout's own environment, else in the one of this process."""
        own = self.checkout / ".venv" / "bin"
        return own if own.exists() else PROGRAMS

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a process."""
        names = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME")
        inherited = {name: os.environ[name] for name in names if name in os.environ}
        return {
            **inherited,
            "PYTHONPATH": f"{self.checkout}:{os.environ.get('PYTHONPATH', '')}",
            "DAGSTER_HOME": str(self.home),
            "PATH": f"{self.programs}:{inherited.get('PATH', '')}",
            **self.variables,
        }

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open Dagster's storage from the test."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            yield instance

    def run(self, *command: str, limit_s: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command and wait for its end."""
        done = subprocess.run(
            [self.programs / command[0], *command[1:]],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done

    def start_daemon(
        self, *program: str | Path, variables: Mapping[str, str] | None = None, limit_s: float = 90
    ) -> ServerProcess:
        """Start a daemon with its code server; returns once it runs its sensors.

        Args:
            program: What is run in place of `dagster-daemon run`.
            variables: What this daemon (and what it starts) is told in addition to the site's own variables.
            limit_s: How long its start may take.
        """
        number = len(self.daemons)
        log_path = self.home / f"daemon-{number}.log"
        command = [*(program or (self.programs / "dagster-daemon", "run")), "-m", MODULE]
        environment = {**self.environment, **(variables or {})}
        daemon = ServerProcess("dagster-daemon", command, log_path, environment=environment)
        self.daemons.append(daemon)
        daemon.start(lambda: "SensorDaemon" in log_path.read_text(), limit_s=limit_s)
        return daemon

    def start_webserver(self, *, limit_s: float = 90) -> str:
        """Start the web server and return its GraphQL address; `stop` ends it."""
        port = free_port()
        log_path = self.home / "webserver.log"
        command = [self.programs / "dagster-webserver", "-h", "127.0.0.1", "-p", str(port), "-m", MODULE]
        server = ServerProcess("dagster-webserver", command, log_path, environment=self.environment)
        self.daemons.append(server)
        server.start(lambda: listens(server.pid, port), limit_s=limit_s)
        return f"http://127.0.0.1:{port}/graphql"

    def stop(self) -> None:
        """End all daemons, and their code servers with them."""
        for daemon in self.daemons:
            daemon.stop()
            daemon.kill_group()  # its code server and runs

    def runs(self, *, job: str | None = None, live: bool = False) -> list[dg.RunRecord]:
        """Return Dagster's runs, newest first."""
        with self.instance() as instance:
            return list(instance.get_run_records(dg.RunsFilter(job_name=job, statuses=LIVE if live else None)))

    def detection_processes(self) -> list[int]:
        """Return the process ids of the detection runs that are at work."""
        started = [record.dagster_run for record in self.runs(job=JOB_NAME, live=True)]
        notes = [read_noted(run, PROCESS_TAG) for run in started if run.status is dg.DagsterRunStatus.STARTED]
        return [int(json.loads(note)[-2]) for note in notes if note]

    def wait_for_runs_to_end(self, *, limit_s: float = 120) -> None:
        """Return when no run is live."""
        wait_until(lambda: not self.runs(live=True), limit_s=limit_s, what="all runs to end", interval_s=0.5)


def make_site(
    home: Path, variables: dict[str, str], dagster_yaml: Path | None = None, checkout: Path = REPOSITORY
) -> Site:
    """Make a DAGSTER_HOME.

    Args:
        home: Where.
        variables: The settings by their names in the environment.
        dagster_yaml: The instance's settings; default: those of the checkout.
        checkout: The code that its processes run.
    """
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(dagster_yaml or checkout / "dagster.yaml", home / "dagster.yaml")
    prefix = "IMGPIPELINE_"
    fields = {name.removeprefix(prefix).lower(): value for name, value in variables.items() if name.startswith(prefix)}
    if topics := fields.pop("kafka_topic", None):  # the one field whose variable has another name
        fields["kafka_topics"] = topics
    aws = {"s3_access_key_id": "AWS_ACCESS_KEY_ID", "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    fields |= {name: variables[variable] for name, variable in aws.items() if variable in variables}
    return Site(home, variables, load_settings(**fields), checkout=checkout)


def ledger_end(site: Site) -> int:
    """Return how many offsets have an outcome."""
    return sum(end.offset for end in fix_ends(open_store(site.settings)).values())


def site_over(home: Path, kafka: KafkaBroker, topic: str, bucket: S3Bucket, **variables: str) -> Site:
    """Make a DAGSTER_HOME over a topic and a bucket, with the shipped model, short times, and more variables."""
    return make_site(
        home,
        {
            **bucket.environment(),
            "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "IMGPIPELINE_KAFKA_TOPIC": topic,
            "IMGPIPELINE_KAFKA_GROUP": f"group-of-{topic}",
            "IMGPIPELINE_LINGER_S": "2",
            "IMGPIPELINE_COMMIT_INTERVAL_S": "0.5",
            "IMGPIPELINE_MODEL_THREADS": "1",
            **variables,
        },
    )
