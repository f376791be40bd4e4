"""A real Prometheus on loopback that scrapes one target every second and evaluates alert rules."""

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess


class PrometheusServer(Server):
    """One server; a context manager."""

    def __init__(self, work_dir: Path, target_port: int, rules: Path) -> None:
        work_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        target = {"job_name": "imgpipeline", "static_configs": [{"targets": [f"{LOOPBACK}:{target_port}"]}]}
        every_s = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings = {"global": every_s, "scrape_configs": [target], "rule_files": [str(rules)]}
        file = work_dir / "prometheus.yml"
        file.write_text(json.dumps(settings))  # JSON is YAML
        options = {
            "config.file": file,
            "storage.tsdb.path": work_dir / "data",
            "web.listen-address": f"{LOOPBACK}:{self.port}",
        }
        command: list[str | Path] = [programs.prometheus(), *(f"--{name}={value}" for name, value in options.items())]
        self.process = ServerProcess("Prometheus", command, work_dir / "prometheus.log")

    def is_ready(self) -> bool:
        """Tell whether queries are answered."""
        if not self.process.listens_on(self.port):
            return False
        try:
            return bool(self.ask("query", query="vector(1)"))
        except urllib.error.HTTPError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of the API, such as `ask("query", query="up")["result"]`.

        Raises:
            urllib.error.HTTPError: It is refused.
        """
        url = f"http://{LOOPBACK}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]
