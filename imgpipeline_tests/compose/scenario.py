"""The site test: a simulated camera at one end, a browser at the other, and faults that have to raise alerts.

It follows docs/deploy.md: the same commands in the same order, in a network of its own.
"""

import argparse
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from playwright.sync_api import sync_playwright

from imgpipeline_tests.compose import attempts
from imgpipeline_tests.compose.attempts import ATTEMPTS
from imgpipeline_tests.compose.image import check_image
from imgpipeline_tests.compose.project import Service, read_project, services_of
from imgpipeline_tests.compose.running import Site
from imgpipeline_tests.compose.sandbox import NOT_RUN
from imgpipeline_tests.servers import programs
from imgpipeline_tests.servers.disks import fill
from imgpipeline_tests.servers.waiting import wait_until

DOMAIN = "site.test"
PROFILES = ("kafka", "s3", "postgres", "prometheus")
ENTRYPOINT = "/opt/imgpipeline/entrypoint.sh"
ALERT_LIMIT_S = 420.0
RETRY_LIMIT_S = 900.0
"""Failed runs are tried again after a pause that doubles up to ten minutes; a run of another container after three."""
OF_THE_PAST = {"RunsFail", "FramesLost", "DeadLetters"}
"""Alerts about the last quarter of an hour or hour, which go on after their cause has ended."""
STORE_MEGABYTES = 400
_IN_NETWORK = "SITE_TEST_NETWORK"
REFUSALS = ("AccessDenied", "TopicAuthorizationFailedError")


def main() -> int:
    """Run the site test; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m imgpipeline_tests.compose", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only start, count, log in, and try what is not allowed")
    parser.add_argument("--image", action="store_true", help="only do what the Dockerfile copies and installs")
    parser.add_argument("--only", metavar="WORD", help="after the start, only the steps with this word in their names")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the site, its logs and screenshots are kept")
    options = parser.parse_args()
    if _IN_NETWORK not in os.environ:
        if options.image or not (options.short or options.only):
            say(f"ok: the image is built: {check_image()}")
        return 0 if options.image else _in_own_network()
    for each in [*NOT_RUN, *([] if has_proxy() else ["the proxy and its login: `make site-test` builds it"])]:
        say(f"not run: {each}")
    work_dir = Path(options.keep or tempfile.mkdtemp(prefix="site-test-"))
    work_dir.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    with SiteTest(work_dir) as test:
        steps = [step for step in (SHORT if options.short else STEPS) if has_proxy() or step not in NEED_PROXY]
        test.run_steps([steps[0], *(step for step in steps[1:] if (options.only or "") in step.__name__)])
    if options.keep is None:
        shutil.rmtree(work_dir)
    return 0


class SiteTest:
    """One site with its camera; a context manager that ends them."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.folder = work_dir / "site"
        self.shown = self._init()
        self.site = Site(work_dir, self._services(), say, hosts=["camera"])
        self.camera: subprocess.Popen[bytes] | None = None
        self.measured: list[tuple[str, str]] = []

    def __enter__(self) -> Self:
        store = self.site.sandboxes.volume("s3")  # a disk of its own, so that it can be full
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STORE_MEGABYTES}m", "tmpfs", store], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug_camera()
        self.site.__exit__()
        subprocess.run(["umount", "--lazy", self.site.sandboxes.volume("s3")], check=False)

    def run_steps(self, steps: Sequence[Callable[["SiteTest"], str]]) -> None:
        """Run the steps in order, and print what each found."""
        for step in steps:
            name = step.__name__.replace("_", " ")
            began = time.monotonic()
            found = step(self)
            self.measured.append((name, found))
            say(f"ok: {name}, {time.monotonic() - began:.0f} s: {found}")
        print("\n".join(f"{name:40} {found}" for name, found in self.measured), flush=True)

    # -- the site -----------------------------------------------------------------------------------------------------

    def _init(self) -> Mapping[str, str]:
        command = ["imgpipeline", "site", "init", self.folder, "--domain", DOMAIN, "--monitoring"]
        command += ["--camera", "gate=rtsp://camera:8554/cam1"]
        done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        # The proxy is on loopback here, not in a network of Docker.
        self.set_variable("PAGES_SUBNET", "127.0.0.0/8")
        self.set_variable("MODEL", "demo")  # the camera is simulated
        self.set_variable("SOURCE_SILENT_S", "gate=120")  # `yard` sends a single image by HTTP
        return dict(line.split(": ", 1) for line in done.stdout.splitlines())

    def set_variable(self, name: str, value: str) -> None:
        """Change a setting in .env."""
        path = self.folder / ".env"
        lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}=")]
        path.write_text("\n".join([*lines, f"{name}={value}"]) + "\n")

    def _services(self) -> dict[str, Service]:
        profiles = [*PROFILES, *(["proxy"] if has_proxy() else [])]
        return services_of(read_project(self.folder / "compose.yaml", self.folder / ".env", profiles))

    def up(self, *names: str) -> None:
        """`docker compose up -d --wait`: start again what has other settings now."""
        self.site.services.update(self._services())
        for name in names:
            if name in self.site.processes:
                self.site.stop(name)
            self.site.start(name)
            if self.site.services[name].health_command:
                self.site.wait_until_healthy(name)

    def tool(self, *words: str, check: bool = True) -> str:
        """`docker compose run --rm tools …`."""
        return self.site.run("code", [ENTRYPOINT, *words], check=check).stdout

    # -- the camera ---------------------------------------------------------------------------------------------------

    def plug_camera(self) -> None:
        """Start the simulated camera."""
        command = ["imgpipeline", "simulate", "rtsp", "--output", self.work_dir / "camera", "--host", "0.0.0.0"]  # noqa: S104 - of a network of its own
        with (self.work_dir / "camera.log").open("ab") as log:
            self.camera = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def unplug_camera(self) -> None:
        """End the camera."""
        if self.camera is not None:
            self.camera.terminate()
            self.camera.wait()
            self.camera = None

    # -- what it says -------------------------------------------------------------------------------------------------

    def frames(self) -> int:
        """Return how many offsets have an outcome."""
        return self._total("ledger_end")

    def lag(self) -> int:
        """Return how many offsets have no outcome yet."""
        return self._total("lag")

    def _total(self, field: str) -> int:
        status = json.loads(self.tool("imgpipeline", "status", "--json"))
        return sum(partition[field] for partition in status["partitions"])

    def wait_for_frames(self, more: int) -> None:
        """Wait until that many more offsets have an outcome."""
        wanted = self.frames() + more
        try:
            wait_until(lambda: self.frames() >= wanted, limit_s=RETRY_LIMIT_S, what=f"{wanted} outcomes", interval_s=1)
        except TimeoutError as error:
            raise RuntimeError(f"{error}:\n{self.tool('imgpipeline', 'status', '--json')}") from None

    def alerts(self) -> set[str]:
        """Return the names of the alerts that fire in Prometheus."""
        with urllib.request.urlopen("http://127.0.0.1:9090/api/v1/alerts", timeout=10) as answer:
            found = json.load(answer)["data"]["alerts"]
        return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}

    def wait_for_alert(self, *names: str) -> str:
        """Wait until one of these alerts fires; return after how many seconds."""
        assert not self.alerts() & set(names), "fires already"
        began = time.monotonic()
        wait_until(
            lambda: bool(self.alerts() & set(names)), limit_s=ALERT_LIMIT_S, what=" or ".join(names), interval_s=1
        )
        return f"{', '.join(sorted(self.alerts()))} after {time.monotonic() - began:.0f} s"

    def wait_until_quiet(self) -> None:
        """Wait until no alert fires any more that says how things are now."""
        wait_until(
            lambda: not self.alerts() - OF_THE_PAST, limit_s=ALERT_LIMIT_S, what="all alerts to end", interval_s=2
        )

    def request(self, host: str, path: str = "/", *, data: bytes | None = None, **headers: str) -> int:
        """Send a request through the proxy; return its status."""
        url = f"https://127.0.0.1:8443{path}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, data, {"Host": host, **names})
        return status_of(request)

    @property
    def login(self) -> str:
        """The header of the first user."""
        return "Basic " + b64encode(f"{self.shown['user']}:{self.shown['password']}".encode()).decode()


def status_of(request: urllib.request.Request) -> int:
    """Send a request; return its status."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the proxy's own certificate
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:  # noqa: S310 - our own URL
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def everything_starts(test: SiteTest) -> str:
    test.plug_camera()
    began = time.monotonic()
    test.site.start_all()
    for name, service in test.site.services.items():
        if service.health_command:
            test.site.wait_until_healthy(name)
    return f"{len(test.site.services)} services healthy after {time.monotonic() - began:.0f} s"


def frames_are_counted(test: SiteTest) -> str:
    test.wait_for_frames(300)
    test.tool("imgpipeline", "build", "--day", time.strftime("%Y-%m-%d", time.gmtime()))
    audit = test.tool("imgpipeline", "audit")
    print(audit)
    print(test.tool("imgpipeline", "summary", "label-counts"))
    return f"audit ok with {test.frames()} offsets"


def pages_need_a_login(test: SiteTest) -> str:
    for host in (DOMAIN, f"dagster.{DOMAIN}", f"grafana.{DOMAIN}"):
        assert test.request(host) == 401, host
        assert test.request(host, X_Forwarded_User="boss", **{"X-Proxy-Secret": "guess"}) == 401, host
        assert test.request(host, Authorization="Basic " + b64encode(b"admin:wrong").decode()) == 401, host
    assert test.request(DOMAIN, Authorization=test.login) == 200
    assert test.request(f"dagster.{DOMAIN}", Authorization=test.login) == 200
    assert test.request("other.test", Authorization=test.login) == 404
    # Around the proxy, as another container could.
    assert status_of(urllib.request.Request("http://127.0.0.1:8050/", headers={"X-Forwarded-User": "boss"})) == 401
    return "401 without, 200 with a password; a name from elsewhere is not believed"


def images_come_by_https(test: SiteTest) -> str:
    image = next(test.site.sandboxes.volume("s3").rglob("*.jpg")).read_bytes()
    headers = {"Content_Type": "image/jpeg"}
    assert test.request(DOMAIN, "/frames/yard", data=image, **headers) == 401
    status = test.request(
        DOMAIN, "/frames/yard", data=image, Authorization=f"Bearer {test.shown['api key']}", **headers
    )
    assert status in (200, 201), status
    return "401 without, 201 with an API key"


def people_see_the_pages(test: SiteTest) -> str:
    folder = test.work_dir / "screenshots"
    folder.mkdir(exist_ok=True)
    resolved = f"--host-resolver-rules=MAP *.{DOMAIN} 127.0.0.1, MAP {DOMAIN} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=programs.chromium(), args=["--no-sandbox", resolved])
        person = {"username": test.shown["user"], "password": test.shown["password"]}
        page = browser.new_context(http_credentials=person, ignore_https_errors=True).new_page()
        for name, url, text in (
            ("viewer", f"https://{DOMAIN}:8443/", "gate"),
            ("dagster", f"https://dagster.{DOMAIN}:8443/runs", "detect"),
        ):
            page.goto(url, wait_until="commit", timeout=120_000)
            page.get_by_text(text).first.wait_for(timeout=120_000)
            page.screenshot(path=folder / f"{name}.png")
        browser.close()
    return f"screenshots in {folder}"


def each_process_has_only_its_rights(test: SiteTest) -> str:
    """Try with the credentials of each process what only others may do."""
    refused = 0
    for name in ATTEMPTS:
        command = [ENTRYPOINT, "python", "-c", Path(attempts.__file__).read_text(), name]
        outcomes = json.loads(test.site.run(name, command).stdout)
        allowed = {attempt: how for attempt, how in outcomes.items() if how not in REFUSALS}
        assert not allowed, f"{name}: {allowed}"
        refused += len(outcomes)
    return f"{refused} forbidden requests were refused"


def an_unplugged_camera_raises_an_alert(test: SiteTest) -> str:
    test.unplug_camera()
    fired = test.wait_for_alert("SourceSilent")
    test.plug_camera()
    test.wait_until_quiet()
    return fired


def expired_records_raise_an_alert(test: SiteTest) -> str:
    test.site.stop("code")
    wait_until(lambda: test.lag() >= 20, limit_s=60, what="records that nobody reads", interval_s=1)
    script = (
        "import os; from kafka import KafkaAdminClient, TopicPartition as P; e = os.environ; "
        "a = KafkaAdminClient(bootstrap_servers='kafka:9092', security_protocol='SASL_SSL', "
        "ssl_cafile=e['IMGPIPELINE_KAFKA_CA_FILE'], sasl_mechanism='SCRAM-SHA-512', sasl_plain_username='admin', "
        "sasl_plain_password=e['IMGPIPELINE_KAFKA_PASSWORD']); "
        "a.delete_records({P('frames', n): -1 for n in range(3)})"
    )
    test.site.run("setup", [ENTRYPOINT, "python", "-c", script])
    test.up("code")
    fired = test.wait_for_alert("PartitionStopped")
    test.tool("imgpipeline", "ledger", "accept-loss", "--yes")
    test.wait_for_frames(10)
    test.wait_until_quiet()
    return fired


def a_damaged_model_raises_an_alert(test: SiteTest) -> str:
    shipped = Path(__file__).resolve().parents[2] / "models" / "demo.onnx"
    (test.site.sandboxes.volume("state") / "labels.txt").write_text("person\nbicycle\ncar\ndog\n")
    test.tool("imgpipeline", "models", "add", str(shipped), "--name", "own", "--labels", "labels.txt")
    test.set_variable("MODEL", "own")
    test.up("code")
    test.wait_for_frames(50)
    model = next(test.site.sandboxes.volume("state").rglob("own*.onnx"))
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    test.up("code")
    fired = test.wait_for_alert("DetectionRunsFail")
    model.write_bytes(whole)
    test.wait_for_frames(10)
    test.wait_until_quiet()
    return fired


def a_full_disk_raises_an_alert(test: SiteTest) -> str:
    filler = fill(test.site.sandboxes.volume("s3"))
    # Detection cannot store that its runs fail, so the source is noticed first (and RunsFail, with Dagster's database).
    fired = test.wait_for_alert("SourceSilent")
    filler.unlink()
    test.wait_for_frames(10)
    test.wait_until_quiet()
    return fired


def a_copied_bucket_gives_the_same_numbers(test: SiteTest) -> str:
    test.unplug_camera()
    test.tool("imgpipeline", "build", "--day", time.strftime("%Y-%m-%d", time.gmtime()))
    before = test.tool("imgpipeline", "summary", "label-totals")
    for name in ("sources", "ingest", "daemon", "webserver", "code", "viewer", "exporter"):
        test.site.stop(name)
    data, copy = test.site.sandboxes.volume("s3") / "data", test.site.sandboxes.volume("copy")
    subprocess.run(["cp", "--archive", data / "site", copy], check=True)  # the small disk of the store holds it once
    shutil.rmtree(data / "site")
    subprocess.run(["cp", "--archive", copy / "site", data / "restored"], check=True)
    test.set_variable("STORE_URL", "s3://restored")
    test.up("setup")
    test.site.wait_until_done("setup")
    test.up("code", "daemon", "webserver", "viewer", "exporter")
    print(test.tool("imgpipeline", "audit", "--full"))
    after = test.tool("imgpipeline", "summary", "label-totals")
    assert after == before, f"{before}\n{after}"
    test.plug_camera()
    test.up("sources", "ingest")
    test.wait_for_frames(10)
    return "the same totals, audit --full passes, and new frames are counted"


SHORT = (
    everything_starts,
    frames_are_counted,
    pages_need_a_login,
    images_come_by_https,
    people_see_the_pages,
    each_process_has_only_its_rights,
)
NEED_PROXY = (pages_need_a_login, images_come_by_https, people_see_the_pages)
STEPS = (
    *SHORT,
    an_unplugged_camera_raises_an_alert,
    expired_records_raise_an_alert,
    a_damaged_model_raises_an_alert,
    a_full_disk_raises_an_alert,
    a_copied_bucket_gives_the_same_numbers,
)


def has_proxy() -> bool:
    """Tell whether the proxy is installed: building it takes ten minutes, which only `make site-test` spends."""
    try:
        programs.traefik()
    except programs.MissingProgramError:
        return False
    return True


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _in_own_network() -> int:
    """Run this program again, with a network and mounts of its own: its ports meet no others."""
    script = 'ip link set lo up && exec "$@"'
    command = [
        "unshare",
        "--net",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        sys.executable,
        "-m",
        "imgpipeline_tests.compose",
    ]
    environment = {**os.environ, _IN_NETWORK: "1", "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    return subprocess.run([*command, *sys.argv[1:]], check=False, env=environment).returncode
