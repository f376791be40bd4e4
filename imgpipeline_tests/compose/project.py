"""A compose project as docker compose reads it."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipeline_tests.servers import programs


@dataclass(frozen=True, slots=True)
class Service:
    """One service; the names are those of the compose file."""

    name: str
    given: Mapping[str, Any]

    @property
    def environment(self) -> Mapping[str, str]:
        """Its variables; one without a value is not set."""
        return {name: value for name, value in (self.given.get("environment") or {}).items() if value is not None}

    @property
    def needs(self) -> Mapping[str, str]:
        """Condition by the service that it waits for."""
        return {name: each["condition"] for name, each in (self.given.get("depends_on") or {}).items()}

    @property
    def networks(self) -> frozenset[str]:
        """Its networks; none if it has no network at all."""
        return frozenset(self.given.get("networks") or {})

    def strings(self, key: str) -> list[str]:
        """A list of words: `command`, `entrypoint`, `tmpfs`, `expose`."""
        return list(self.given.get(key) or [])

    @property
    def health_command(self) -> list[str]:
        """The command of its health check; empty if it has none."""
        test = (self.given.get("healthcheck") or {}).get("test") or ["NONE"]
        return test[1:] if test[0] == "CMD" else []


def read_project(compose_file: Path, env_file: Path, profiles: Sequence[str]) -> dict[str, Any]:
    """Return a project, as the parser of docker compose reads it.

    Raises:
        ValueError: The file is not valid.
        MissingProgramError: The parser is not installed.
    """
    command = [programs.compose_check(), compose_file, env_file, *profiles]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return json.loads(done.stdout)


def services_of(project: Mapping[str, Any]) -> dict[str, Service]:
    """Return the services of a project by name, each with the files of its secrets."""
    services: dict[str, Service] = {}
    for name, given in project["services"].items():
        secrets = [{**each, "file": project["secrets"][each["source"]]["file"]} for each in given.get("secrets") or []]
        services[name] = Service(name, {**given, "secrets": secrets})
    return services


def in_order(services: Mapping[str, Service]) -> Iterator[Service]:
    """Yield the services so that each comes after those that it waits for."""
    done: set[str] = set()
    while len(done) < len(services):
        ready = [each for each in services.values() if each.name not in done and set(each.needs) <= done]
        if not ready:
            raise ValueError(f"services wait for each other: {sorted(set(services) - done)}")
        yield from ready
        done |= {each.name for each in ready}
