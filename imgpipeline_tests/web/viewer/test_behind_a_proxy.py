"""Behind nginx with the configuration of docs/viewer.md: people log in there, and the viewer believes nobody else."""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.ledger.samples import frames, write_chain
from imgpipeline_tests.servers.nginx import Nginx
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.programs import MissingProgramError
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

PAGE = Path(__file__).parents[3] / "docs" / "viewer.md"
BLOCK = re.search(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
FROM_PROXY = "127.0.0.2"
"""nginx connects from this address in place of the one that all other clients here have."""


@dataclass(frozen=True)
class Proxied:
    """A viewer and the proxy before it."""

    viewer: Viewer
    """Reached directly."""
    outside: httpx.Client
    """Reaches it through nginx, without a password."""

    def as_anna(self) -> httpx.BasicAuth:
        return httpx.BasicAuth("anna", "blue door")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder, port = tmp_path_factory.mktemp("proxied"), free_port()
    assert BLOCK is not None
    names = {
        "listen 443": f"listen {LOOPBACK}:{{port}}",
        "/etc/nginx/site.pem": "{certificate}",
        "/etc/nginx/site.key": "{key}",
        "/etc/nginx/people": "{people}",
        "proxy_pass http://127.0.0.1:8050;": f"proxy_bind {FROM_PROXY}; proxy_pass http://{LOOPBACK}:{port};",
    }
    try:
        nginx = Nginx(folder / "nginx", BLOCK[1], names, {"anna": "blue door"})
    except MissingProgramError as missing:
        pytest.skip(str(missing))
    settings = Settings(_env_file=None, store_url=(folder / "store").as_uri(), trusted_proxies=FROM_PROXY,
                        api_keys_file=folder / "keys.json")  # type: ignore[call-arg]  # pydantic-settings' own argument  # fmt: skip
    write_chain(open_store(settings), frames(0, 3))
    trusted = ssl.create_default_context(cafile=str(nginx.certificates.ca_file))
    with viewing(settings, port) as viewer, nginx, httpx.Client(base_url=nginx.url, verify=trusted) as outside:
        yield Proxied(viewer, outside)


@pytest.mark.medium
def test_the_name_of_the_login_is_used(proxied: Proxied):
    assert proxied.outside.get("/").status_code == 401
    page = proxied.outside.get("/review", params={"day": str(DAY)}, auth=proxied.as_anna())
    assert (page.status_code, "Mark whole day as reviewed" in page.text) == (200, True)
    body = {"day": str(DAY)}
    marked = proxied.outside.post("/api/v1/reviewed", json=body, auth=proxied.as_anna())
    assert (marked.status_code, marked.json()["by"], marked.json()["reviewed"]) == (200, "anna", 3)


@pytest.mark.medium
def test_a_name_sent_by_a_client_is_ignored(proxied: Proxied):
    forged = {"X-Forwarded-User": "admin"}
    assert proxied.viewer.http.get("/", headers=forged).status_code == 401, "not from the proxy"
    through = proxied.outside.get("/api/v1/reviewed", headers=forged, auth=proxied.as_anna())
    assert through.json()["by"] == "anna"


@pytest.mark.medium
def test_forms_of_other_sites_are_refused_and_own_ones_are_not(proxied: Proxied):
    form = {"day": str(DAY), "reviewed": "0", "back": "/review"}
    own = str(proxied.outside.base_url).rstrip("/")
    answers = [
        proxied.outside.post("/review/reviewed", data=form, headers={"Origin": origin}, auth=proxied.as_anna())
        for origin in (own, "https://elsewhere.example")
    ]
    assert [one.status_code for one in answers] == [303, 403]
    assert answers[0].headers["location"] == "/review", "leads back to this site, by whatever name it was reached"


@pytest.mark.medium
def test_changes_arrive_while_the_connection_stays_open(proxied: Proxied):
    with proxied.outside.stream("GET", "/api/v1/changes", auth=proxied.as_anna(), timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert any("revision" in line for line in stream.iter_lines())
