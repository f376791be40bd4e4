"""Only this machine reaches a viewer without login, and every response forbids what pages do not need."""

import threading

import pytest

from imgpipeline.errors import UsageError
from imgpipeline.settings import Settings
from imgpipeline.web.viewer.app import run_viewer
from imgpipeline.web.viewer.responses import with_code
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.web.viewer.conftest import ViewedStore


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "cameras.example"])
def test_an_address_that_other_machines_reach_is_refused(folder: Settings, host: str):
    with pytest.raises(UsageError, match=r"Anyone who can reach .* no API key") as refused:
        run_viewer(folder, host, 8050, threading.Event())
    assert "ssh -L 8050:127.0.0.1:8050" in str(refused.value)


def test_a_foreign_host_name_is_refused(viewed: ViewedStore):
    assert viewed.viewer.http.get("/", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "path", ["/", "/review", "/nothing", "/api/v1/days", "/static/viewer.js", f"/review?day={DAY}"]
)
def test_every_answer_forbids_foreign_and_inline_scripts(viewed: ViewedStore, path: str):
    headers = viewed.viewer.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/", f"/review?day={DAY}", "/api/v1/days", "/alerts/1/images/0", "/static/viewer.css", "/nothing"]
)
def test_head_answers_as_get_without_a_body(viewed: ViewedStore, path: str):
    full, head = viewed.viewer.get(path), viewed.viewer.http.head(path)
    assert (head.status_code, head.content) == (full.status_code, b"")
    assert {**head.headers, "date": ""} == {**full.headers, "date": ""}


def test_head_does_not_open_the_endless_stream_of_changes(viewed: ViewedStore):
    assert viewed.viewer.http.head("/api/v1/changes").status_code == 405


@pytest.mark.parametrize("path", ["/", f"/review?day={DAY}", "/docs", "/nothing"])
def test_no_page_has_inline_scripts_styles_or_foreign_addresses(viewed: ViewedStore, path: str):
    page = viewed.viewer.get(path).text
    assert "<style" not in page
    assert " style=" not in page
    assert " onerror=" not in page.replace("onerror=&#34;", "")
    assert "<script>" not in page
    assert "//" not in page.replace("image/svg+xml", "").split("<main", 1)[0].split("<body", 1)[0]


def test_backticks_become_code_and_everything_else_is_escaped():
    assert with_code("see `/docs` & <b>") == "see <code>/docs</code> &amp; &lt;b&gt;"
    assert with_code("`a<b`, `open") == "<code>a&lt;b</code>, open"
