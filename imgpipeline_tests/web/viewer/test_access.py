"""Who may use the viewer: every route asks, forged requests are refused, and what is acknowledged names its author."""

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import SecretStr

from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.events.alerts.listing import read_acknowledgements
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline.web.viewer.access import Access
from imgpipeline.web.viewer.app import check_host, create_app
from imgpipeline.web.viewer.site import open_site
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.ledger.samples import frames, write_chain
from imgpipeline_tests.servers.nginx import Nginx
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.web.viewer.conftest import raise_alert
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

pytestmark = pytest.mark.medium

NOW = datetime(2026, 1, 9, 12, tzinfo=UTC)
ACKNOWLEDGE = "/api/v1/alerts/1/acknowledgements"


@dataclass(frozen=True, slots=True)
class GuardedViewer:
    """A viewer that asks for keys."""

    viewer: Viewer
    keys: KeyFile
    store: ObjectStore
    """Has one alert."""

    def key(self, *scopes: Scope, name: str = "anna") -> dict[str, str]:
        """Make a key, and return the header that sends it."""
        sources = ("*",) if Scope.INGEST in scopes else ()
        return {"Authorization": f"Bearer {self.keys.add(sources, NOW, scopes=scopes, name=name)}"}


@pytest.fixture
def guarded(folder: Settings) -> Iterator[GuardedViewer]:
    keys, store = KeyFile(folder.api_keys_file), open_store(folder)
    keys.add((), NOW, scopes=(Scope.READ,), name="first")
    raise_alert(store)
    with viewing(folder) as viewer:
        yield GuardedViewer(viewer, keys, store)


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Return method and path of every route, with values for what its path names."""
    values = {"{number}": "1", "{position}": "0", "{day}": "2026-01-09", "{frame_id}": "0" * 32,
              "{annotation_id}": "0" * 32, "{topic}": "frames", "{partition}": "0", "{offset}": "0"}  # fmt: skip
    found = [("GET", "/static/viewer.js")]
    routers = [getattr(route, "original_router", None) for route in app.routes]
    routes = [*app.routes, *(route for router in routers if router for route in router.routes)]
    for route in routes:
        path: str = getattr(route, "path", None) or ""
        for name, value in values.items():
            path = path.replace(name, value)
        found += [(method, path) for method in sorted(getattr(route, "methods", None) or ())]
    return found


def test_every_route_needs_a_key_with_its_scope(guarded, folder):
    http = guarded.viewer.http
    wrong = {"none": ({}, 401), "unknown": ({"Authorization": "Bearer img_x"}, 401),
             "ingest": (guarded.key(Scope.INGEST), 403)}  # fmt: skip
    routes = [*routes_of(create_app(open_site(folder), Access(folder))), ("GET", "/nothing"), ("POST", "/")]
    assert len(routes) > 20
    for method, path in routes:
        if path == "/health":  # for probes, which have no key
            continue
        for headers, status in wrong.values():
            answer = http.request(method, path, headers=headers)
            assert (answer.status_code, path) == (status, path)
            assert "gate" not in answer.text
            assert answer.headers["content-security-policy"]
    assert http.get("/").headers["www-authenticate"].startswith("Basic ")
    assert http.get("/api/v1/days").headers["www-authenticate"] == "Bearer"


def test_a_probe_needs_no_key_and_learns_only_that_the_viewer_runs(guarded):
    answer = guarded.viewer.http.get("/health")
    assert (answer.status_code, answer.text) == (200, "ok")


def test_acknowledging_needs_its_scope_and_names_the_holder_of_the_key(guarded):
    http = guarded.viewer.http
    refused = http.post(ACKNOWLEDGE, json={"note": "x"}, headers=guarded.key(Scope.READ))
    assert (refused.status_code, "acknowledge" in refused.text) == (403, True)
    both = guarded.key(Scope.READ, Scope.ACKNOWLEDGE, name="bert")
    answer = http.post(ACKNOWLEDGE, json={"note": "a <b>parade</b>"}, headers=both)
    assert (answer.status_code, answer.json()["by"]) == (201, "bert")
    (given,) = read_acknowledgements(guarded.store, 1)
    assert (given.by, given.note) == ("bert", "a <b>parade</b>")
    page = http.get("/alerts/1", headers=both).text
    assert "<bdi>bert</bdi>" in page
    assert "a &lt;b&gt;parade&lt;/b&gt;" in page
    assert http.post("/api/v1/alerts/2/acknowledgements", json={}, headers=both).status_code == 404
    assert http.post(ACKNOWLEDGE, json={"note": "x" * 2001}, headers=both).status_code == 400


def test_the_form_of_an_alert_acknowledges_it_and_shows_the_page(guarded):
    http, headers = guarded.viewer.http, guarded.key(Scope.READ, Scope.ACKNOWLEDGE)
    form = 'action="/alerts/1/acknowledge" method="post"'
    assert form in http.get("/alerts/1", headers=headers).text
    assert form not in http.get("/alerts/1", headers=guarded.key(Scope.READ)).text
    sent = http.post(
        "/alerts/1/acknowledge", data={"note": "seen"}, headers={**headers, "Sec-Fetch-Site": "same-origin"}
    )
    assert (sent.status_code, sent.headers["location"]) == (303, "/alerts/1")
    assert [given.note for given in read_acknowledgements(guarded.store, 1)] == ["seen"]
    for note, status in (("x" * 2_001, 400), ("x" * 70_000, 413)):
        assert http.post("/alerts/1/acknowledge", data={"note": note}, headers=headers).status_code == status
    assert len(read_acknowledgements(guarded.store, 1)) == 1


def test_a_page_of_another_site_cannot_acknowledge_with_the_key_of_its_visitor(guarded):
    key = guarded.key(Scope.READ, Scope.ACKNOWLEDGE)
    for browser in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
                    {"Origin": "https://evil.example"}, {"Origin": "null"}):  # fmt: skip
        for path in (ACKNOWLEDGE, "/alerts/1/acknowledge"):
            assert guarded.viewer.http.post(path, headers={**key, **browser}).status_code == 403, browser
    assert read_acknowledgements(guarded.store, 1) == []


@pytest.mark.parametrize(
    ("proxies", "headers", "named"),
    [
        pytest.param("127.0.0.1", [("X-Forwarded-User", "carla")], "carla", id="trusted"),
        pytest.param("10.0.0.0/8, 127.0.0.0/8", [("X-Forwarded-User", "carla")], "carla", id="network"),
        pytest.param("192.0.2.1", [("X-Forwarded-User", "carla")], None, id="untrusted"),
        pytest.param(
            "192.0.2.1", [("X-Forwarded-User", "carla"), ("X-Forwarded-For", "192.0.2.1")], None, id="forged-address"
        ),
        pytest.param("127.0.0.1", [], None, id="nobody"),
        pytest.param("127.0.0.1", [("X-Forwarded-User", "")], None, id="blank"),
        pytest.param("127.0.0.1", [("X-Forwarded-User", "a"), ("X-Forwarded-User", "b")], None, id="two"),
    ],
)
def test_only_a_trusted_proxy_can_name_the_visitor(folder, proxies, headers, named):
    sent = [(name.lower().encode(), value.encode()) for name, value in headers]
    request = Request({"type": "http", "client": ("127.0.0.1", 50_000), "headers": sent})
    visitor = Access(folder.model_copy(update={"trusted_proxies": proxies})).visitor(request)
    assert (visitor and visitor.name) == named


@pytest.mark.parametrize(
    ("secrets", "named"),
    [
        pytest.param(["s3cret"], "carla", id="right"),
        pytest.param(["guess"], None, id="wrong"),
        pytest.param([], None, id="none"),
        pytest.param(["s3cret", "s3cret"], None, id="two"),
    ],
)
def test_a_program_in_the_proxys_network_cannot_name_a_visitor_without_the_proxys_secret(folder, secrets, named):
    sent = [(b"x-forwarded-user", b"carla"), *((b"x-proxy-secret", one.encode()) for one in secrets)]
    request = Request({"type": "http", "client": ("127.0.0.1", 50_000), "headers": sent})
    changed = {"trusted_proxies": "127.0.0.1", "proxy_secret": SecretStr("s3cret")}
    visitor = Access(folder.model_copy(update=changed)).visitor(request)
    assert (visitor and visitor.name) == named


def test_an_empty_secret_of_the_proxy_is_refused_and_not_taken_as_none(folder, monkeypatch):
    """An empty file of the compose folder arrives as an empty variable, which settings take as not set."""
    behind_proxy = folder.model_copy(update={"trusted_proxies": "127.0.0.1"})
    Access(behind_proxy)
    monkeypatch.setenv("IMGPIPELINE_PROXY_SECRET", "")
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_PROXY_SECRET is empty"):
        Access(behind_proxy)


def test_the_author_is_the_person_named_by_a_proxy_or_without_keys_anyone_on_this_machine(folder):
    store = open_store(folder)
    raise_alert(store)
    with viewing(folder) as viewer:
        assert viewer.http.post(ACKNOWLEDGE, json={"note": "me"}).status_code == 201
    changed = {"trusted_proxies": "127.0.0.1", "identity_header": "Remote-User"}
    with viewing(folder.model_copy(update=changed)) as viewer:
        assert viewer.http.post(ACKNOWLEDGE, json={}, headers={"Remote-User": "carla"}).status_code == 201
    assert [given.by for given in read_acknowledgements(store, 1)] == ["viewer without login", "carla"]


def test_an_address_that_other_machines_reach_needs_a_key_or_a_proxy(folder):
    with pytest.raises(UsageError, match="there is no API key"):
        check_host(Access(folder), "0.0.0.0", 8050)  # noqa: S104 - refused
    KeyFile(folder.api_keys_file).add(("*",), NOW)
    with pytest.raises(UsageError, match="there is no API key"):
        check_host(Access(folder), "0.0.0.0", 8050)  # noqa: S104 - a key that only ingests opens nothing
    check_host(Access(folder.model_copy(update={"trusted_proxies": "10.0.3.7"})), "0.0.0.0", 8050)  # noqa: S104 - allowed
    KeyFile(folder.api_keys_file).add((), NOW, scopes=(Scope.READ,))
    check_host(Access(folder), "0.0.0.0", 8050)  # noqa: S104 - allowed


def test_a_wrong_proxy_and_a_damaged_file_of_keys_are_errors(folder):
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_TRUSTED_PROXIES"):
        Access(folder.model_copy(update={"trusted_proxies": "cameras.example"}))
    folder.api_keys_file.write_text("{")
    with pytest.raises(ConfigurationError, match="not a valid file of API keys"):
        Access(folder).is_needed()


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
    nginx = Nginx(folder / "nginx", BLOCK[1], names, {"anna": "blue door"})
    settings = Settings(_env_file=None, store_url=(folder / "store").as_uri(), trusted_proxies=FROM_PROXY,
                        api_keys_file=folder / "keys.json")  # fmt: skip
    write_chain(open_store(settings), frames(0, 3))
    trusted = ssl.create_default_context(cafile=str(nginx.certificates.ca_file))
    with viewing(settings, port) as viewer, nginx, httpx.Client(base_url=nginx.url, verify=trusted) as outside:
        yield Proxied(viewer, outside)


def test_the_name_of_the_login_is_used(proxied):
    assert proxied.outside.get("/").status_code == 401
    page = proxied.outside.get("/review", params={"day": str(DAY)}, auth=proxied.as_anna())
    assert (page.status_code, "Mark whole day as reviewed" in page.text) == (200, True)
    body = {"day": str(DAY)}
    marked = proxied.outside.post("/api/v1/reviewed", json=body, auth=proxied.as_anna())
    assert (marked.status_code, marked.json()["by"], marked.json()["reviewed"]) == (200, "anna", 3)


def test_a_name_sent_by_a_client_is_ignored(proxied):
    forged = {"X-Forwarded-User": "admin"}
    assert proxied.viewer.http.get("/", headers=forged).status_code == 401, "not from the proxy"
    through = proxied.outside.get("/api/v1/reviewed", headers=forged, auth=proxied.as_anna())
    assert through.json()["by"] == "anna"


def test_forms_of_other_sites_are_refused_and_own_ones_are_not(proxied):
    form = {"day": str(DAY), "reviewed": "0", "back": "/review"}
    own = str(proxied.outside.base_url).rstrip("/")
    answers = [
        proxied.outside.post("/review/reviewed", data=form, headers={"Origin": origin}, auth=proxied.as_anna())
        for origin in (own, "https://elsewhere.example")
    ]
    assert [one.status_code for one in answers] == [303, 403]
    assert answers[0].headers["location"] == "/review", "leads back to this site, by whatever name it was reached"


def test_changes_arrive_while_the_connection_stays_open(proxied):
    with proxied.outside.stream("GET", "/api/v1/changes", auth=proxied.as_anna(), timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert any("revision" in line for line in stream.iter_lines())
