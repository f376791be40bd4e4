"""A real PostgreSQL of its own: fresh cluster, durability off, thrown away at the end."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psycopg2

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess

USER = "test"


class PostgresServer(Server):
    """One PostgreSQL with an account `test` that needs no password; a context manager.

    Guarantees:
        Ready when `start` returns (under a second). Its folder is made below the system's temporary folder, not
        below pytest's: the server refuses to run as root, and its own account cannot enter root's folders.
    """

    def __init__(self) -> None:
        self._programs = programs.postgres_folder()
        self._account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self.work_dir = Path(tempfile.mkdtemp(prefix="imgpipeline-postgres-"))
        if self._account is not None:
            os.chown(self.work_dir, self._account.pw_uid, self._account.pw_gid)
        self.port = free_port()
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(self.work_dir), "LC_ALL": "C.UTF-8"}
        self.process = ServerProcess(
            "postgres",
            self._command(),
            self.work_dir / "postgres.log",
            environment=self._environment,
            account=self._account,
            death_signal=signal.SIGQUIT,  # its "immediate shutdown": takes its own children with it
        )

    @property
    def host(self) -> str:
        """Address of the server."""
        return LOOPBACK

    @property
    def url(self) -> str:
        """The database as a URL: `postgresql://test@127.0.0.1:port/postgres`."""
        return self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """Return the URL of one database."""
        return f"postgresql://{USER}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(f'CREATE DATABASE "{name}"')
        finally:
            connection.close()
        return self.database_url(name)

    def start(self) -> None:
        """Make the cluster where there is none yet, and start the server; errors as for all servers."""
        if not (self.work_dir / "data").exists():
            self._make_cluster()
        super().start()

    def stop(self) -> None:
        """End the server at once; its data stay until the context ends."""
        self.process.stop(signal.SIGQUIT)

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def _make_cluster(self) -> None:
        command: list[str | Path] = [self._programs / "initdb", "-D", self.work_dir / "data", "-U", USER, "-A", "trust"]
        made = subprocess.run(
            [*command, "-E", "UTF8", "--no-sync"],
            check=False,
            cwd=self.work_dir,
            env=self._environment,
            capture_output=True,
            text=True,
            user=None if self._account is None else self._account.pw_uid,
            group=None if self._account is None else self._account.pw_gid,
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb ended with status {made.returncode}:\n{made.stdout}{made.stderr}")

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": str(self.work_dir),
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [self._programs / "postgres", "-D", self.work_dir / "data", *options]

    def is_ready(self) -> bool:
        if not self.process.listens_on(self.port):
            return False
        try:
            psycopg2.connect(self.url).close()
        except psycopg2.OperationalError:
            return False
        return True
