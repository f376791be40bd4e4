"""The site test: a simulated camera at one end, a browser at the other, and faults that have to raise alerts."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imgpipeline_tests.site.project import read_project, services_of
from imgpipeline_tests.site.running import Site
from imgpipeline_tests.site.sandbox import NOT_RUN

_IN_NETWORK = "SITE_TEST_NETWORK"
DOMAIN = "site.test"


def main() -> int:
    if _IN_NETWORK not in os.environ:
        return _in_own_network()
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    for each in NOT_RUN:
        say(f"not run: {each}")
    work_dir = options.keep or Path(tempfile.mkdtemp(prefix="site-test-"))
    work_dir.mkdir(exist_ok=True)
    folder = work_dir / "site"
    subprocess.run(["imgpipeline", "site", "init", folder, "--domain", DOMAIN, "--camera", "gate=rtsp://camera:8554/cam1"],
                   check=True, stdin=subprocess.DEVNULL)
    (folder / ".env").write_text((folder / ".env").read_text() + "PAGES_SUBNET=127.0.0.0/8\n")
    project = read_project(folder / "compose.yaml", folder / ".env", "kafka,s3,postgres,proxy".split(","))
    services = services_of(project)
    with Site(work_dir, services, say, ["camera", "tools"]) as site:
        site.start_all()
        for name, service in services.items():
            if service.health_command:
                site.wait_until_healthy(name)
        say("up")
        time.sleep(30)
        print(site.run("code", ["/opt/imgpipeline/entrypoint.sh", "imgpipeline", "status"]).stdout)
    return 0


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _in_own_network() -> int:
    command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-m", "imgpipeline_tests.site"]
    return subprocess.run([*command, *sys.argv[1:]], check=False, env={**os.environ, _IN_NETWORK: "1"}).returncode
