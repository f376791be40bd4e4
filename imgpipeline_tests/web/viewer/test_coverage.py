"""Observed time by source and hour, and outages, as a page and in the API."""

import re
from collections.abc import Iterator
from html import unescape

import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.web.viewer.conftest import HOSTILE_SOURCE, ViewedStore
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shows a source that was offline, and one without notices. For reading only."""
    settings = Settings(_env_file=None, store_url=(tmp_path_factory.mktemp("coverage") / "store").as_uri())  # type: ignore[call-arg]  # pydantic-settings' own argument
    session = [
        said(0, NoticeKind.STARTED), shot(1), account(2, 1, observed_s=42), shot(3, source=HOSTILE_SOURCE),
        said(4, NoticeKind.OFFLINE, minute=1, reason="<b>no route</b>"), said(5, NoticeKind.ONLINE, minute=61),
        account(6, 0, minute=61, observed_s=30), said(7, NoticeKind.ENDED, minute=62),
    ]  # fmt: skip
    write_chain(open_store(settings), session)
    with viewing(settings) as running:
        yield running


@pytest.mark.medium
def test_each_hour_leads_to_its_frames_and_they_add_up(viewer: Viewer):
    (source,) = viewer.json("/api/v1/coverage", day=DAY, source="cam-1")["sources"]
    assert [(one["hour"], one["observed_s"]) for one in source["hours"]] == [(12, 42.0), (13, 30.0)]
    assert source["observed_s"] == 72.0
    page = viewer.get("/coverage", day=DAY, source="cam-1").text
    links = {unescape(link) for link in re.findall(r'href="(/review[^"]*hour=[^"]*)"', page)}
    assert links == {f"/review?day={DAY}&source=cam-1&hour={hour}" for hour in (12, 13)}
    for one in source["hours"]:
        frames = viewer.json("/api/v1/frames", day=DAY, source="cam-1", hour=one["hour"])
        assert frames["matching"] == one["frames"]


@pytest.mark.medium
def test_outages_are_listed_with_their_reason_as_text(viewer: Viewer):
    (source,) = viewer.json("/api/v1/coverage", day=DAY, source="cam-1")["sources"]
    assert source["outages"] == [
        {"kind": "offline", "start": f"{DAY}T12:01:00.000000Z", "end": f"{DAY}T13:01:00.000000Z", "duration_s": 3600.0,
         "reason": "<b>no route</b>"},
    ]  # fmt: skip
    page = viewer.get("/coverage", day=DAY).text
    assert '<rect class="offline" x="721.0"' in page
    assert "&lt;b&gt;no route&lt;/b&gt;" in page
    assert "<b>no route" not in page
    assert HOSTILE_SOURCE not in page
    assert "None. A source is offline when it says so" in viewer.get("/coverage", day=DAY, source=HOSTILE_SOURCE).text


@pytest.mark.medium
def test_overview_and_accounts_lead_to_it(viewer: Viewer):
    for path in ("/", "/accounts"):
        assert f'href="/coverage?day={DAY}"' in viewer.get(path, day=DAY).text


@pytest.mark.parametrize(
    "wrong", [{"day": "2026-13-01"}, {"source": "\0"}, {"hour": "3"}], ids=lambda one: next(iter(one))
)
def test_a_wrong_parameter_is_named(viewer: Viewer, wrong: dict[str, str]):
    for path in ("/coverage", "/api/v1/coverage"):
        answer = viewer.get(path, **wrong)
        assert answer.status_code == 400
        assert next(iter(wrong)) in answer.text


def test_a_day_or_source_that_is_not_there_says_so(viewed: ViewedStore):
    assert "No source matches." in viewed.viewer.get("/coverage", source="nowhere").text
    assert viewed.viewer.get("/coverage", day="2020-01-01").status_code == 404
