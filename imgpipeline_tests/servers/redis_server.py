"""A real Redis on loopback, with a password, which keeps each write in a file."""

from pathlib import Path

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess


class RedisServer(Server):
    """One server; a context manager. After `kill` and `start` it has the writes that it had acknowledged."""

    def __init__(self, work_dir: Path) -> None:
        work_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        options = {"port": self.port, "bind": LOOPBACK, "dir": work_dir, "appendonly": "yes", "requirepass": "test"}
        command: list[str | Path] = [programs.redis_server()]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self.process = ServerProcess("Redis", command, work_dir / "redis.log")

    def url(self, database: int) -> str:
        return f"redis://:test@{LOOPBACK}:{self.port}/{database}"
