"""A real nginx that runs one configuration, as the docs show it: a proxy that logs people in."""

import os
from collections.abc import Mapping
from pathlib import Path

from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.certificates import Certificates, make_certificates
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import Server, ServerProcess

_WHOLE = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{server}
}}
"""


class Nginx(Server):
    """One proxy; a context manager."""

    def __init__(self, work_dir: Path, server: str, names: Mapping[str, str], passwords: Mapping[str, str]) -> None:
        """Prepare a proxy.

        Args:
            work_dir: Its folder.
            server: The `server` block.
            names: What to write in place of what in it. `{port}`, `{certificate}`, `{key}` and `{people}` on the right
                side are its own port, its certificate with key, and its file of passwords.
            passwords: Password by person.
        """
        work_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.certificates: Certificates = make_certificates(work_dir / "tls")
        people = work_dir / "people"
        people.write_text("".join(f"{name}:{{PLAIN}}{password}\n" for name, password in passwords.items()))
        own = {
            "port": self.port,
            "certificate": self.certificates.server_file,
            "key": self.certificates.server_file,
            "people": people,
        }
        for said, meant in names.items():
            if said not in server:
                raise ValueError(f"the configuration does not say {said}")
            server = server.replace(said, meant.format_map(own))
        config = work_dir / "nginx.conf"
        # As root it would read the passwords as another account, which may not enter the folder of the test.
        account = "user root;" if os.geteuid() == 0 else ""
        config.write_text(account + _WHOLE.format(folder=work_dir, server=server))
        # Nothing but the configuration decides: neither the account's name nor the folder of the package.
        command: list[str | Path] = [programs.nginx(), "-c", config, "-p", work_dir, "-e", work_dir / "error.log"]
        self.process = ServerProcess("nginx", command, work_dir / "nginx.log")

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://{LOOPBACK}:{self.port}"
