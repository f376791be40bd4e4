"""A real Mosquitto (MQTT 5 and 3.1.1) that keeps sessions and messages over a kill.

It is ready when `start` returns (0.1 s), and has users with passwords and TLS if a test asks for them.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.certificates import Certificates, make_certificates
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess


class Mosquitto(Server):
    """One broker; a context manager.

    Guarantees:
        A broker that was stopped or killed comes back on its port. What it knew a second before a kill, it still knows.
    """

    def __init__(
        self,
        work_dir: Path,
        *,
        users: Mapping[str, str] | None = None,
        tls: bool = False,
        persistent: bool = True,
        max_queued: int = 100_000,
    ) -> None:
        """Prepare a broker.

        Args:
            work_dir: Its folder.
            users: Passwords by name; None: anybody may connect.
            tls: Whether its only port speaks TLS.
            persistent: Whether it keeps sessions and messages over a restart.
            max_queued: Messages that it keeps for a client.
        """
        work_dir.mkdir(parents=True, exist_ok=True)
        self.host, self.port = LOOPBACK, free_port()
        self.certificates: Certificates | None = make_certificates(work_dir / "tls") if tls else None
        config = [
            f"listener {self.port} {LOOPBACK}",
            f"allow_anonymous {'false' if users else 'true'}",
            f"persistence {'true' if persistent else 'false'}",
            f"persistence_location {work_dir}/",
            "autosave_on_changes true",
            "autosave_interval 1",
            f"max_queued_messages {max_queued}",
            "log_type all",
            *(["user root"] if os.geteuid() == 0 else []),
        ]
        if users:
            config.append(f"password_file {self._write_passwords(work_dir / 'passwords', users)}")
        if self.certificates:
            server = self.certificates.server_file
            config += [f"certfile {server}", f"keyfile {server}"]
        file = work_dir / "mosquitto.conf"
        file.write_text("".join(f"{line}\n" for line in config))
        command: list[str | Path] = [programs.mosquitto(), "-c", file]
        self.process = ServerProcess("Mosquitto", command, work_dir / "mosquitto.log")

    def has_subscriber(self, client_id: str) -> bool:
        """Tell whether a client has ever subscribed."""
        return f"Sending SUBACK to {client_id}" in self.process.log_path.read_text(errors="replace")

    def _write_passwords(self, file: Path, users: Mapping[str, str]) -> Path:
        file.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
        subprocess.run([programs.mosquitto_passwd(), "-U", file], check=True, capture_output=True)
        return file
