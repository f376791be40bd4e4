"""The newest image of each source, and when each was observed."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, dead_letter, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.web.viewer.conftest import HOSTILE_SOURCE, ViewedStore
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

SOURCES = ("gate", "yard", HOSTILE_SOURCE)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Viewer, list[Frame]]]:
    """A viewer over twelve frames of three sources; the latest is ten minutes old."""
    settings = Settings(_env_file=None, store_url=(tmp_path_factory.mktemp("live") / "store").as_uri())  # type: ignore[call-arg]  # pydantic-settings' own argument
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=26)
    steps = [timedelta(hours=2 * n) if n < 11 else timedelta(hours=25, minutes=50) for n in range(12)]
    found = [
        seen(n, ["car"] * (n % 3) + ["dog"], source=SOURCES[n % 3], timestamp=start + step)
        for n, step in enumerate(steps)
    ]
    write_chain(open_store(settings), [*found, dead_letter(12, start.date())])
    with viewing(settings) as viewer:
        yield viewer, found


def test_each_source_has_its_newest_frame_with_all_boxes(shown: tuple[Viewer, list[Frame]]):
    viewer, frames = shown
    newest = {one.source: one for one in sorted(frames, key=lambda one: one.timestamp)}
    found = {one["source"]: one for one in viewer.json("/api/v1/live")["sources"] if one["frame"]}
    assert {source: one["frame"]["frame_id"] for source, one in found.items()} == {
        source: one.frame_id for source, one in newest.items()
    }
    for source, one in found.items():
        assert [box["label"] for box in one["detections"]] == [box.label for box in newest[source].detections]


def test_the_live_page_shows_the_age_of_each_image_and_links_to_its_frame(shown: tuple[Viewer, list[Frame]]):
    viewer, frames = shown
    page = viewer.get("/live").text
    for one in frames[-3:]:
        assert f'href="/frames/{one.day}/{one.frame_id}?source=' in page
        assert f'src="/api/v1/frames/{one.day}/{one.frame_id}/thumbnail"' in page
    assert "10 min" in page
    assert page.count("<rect x=") == sum(len(one.detections) for one in frames[-3:])
    assert HOSTILE_SOURCE not in page
    assert viewer.get("/live", day="2026-01-09").status_code == 400


@pytest.mark.medium
def test_the_live_page_of_an_empty_store_says_how_to_start_a_source(folder: Settings):
    with viewing(folder) as viewer:
        assert "imgpipeline sources run" in viewer.get("/live").text
        assert viewer.json("/api/v1/live")["sources"] == []


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
    assert (
        "None. A source is offline when it reports so" in viewer.get("/coverage", day=DAY, source=HOSTILE_SOURCE).text
    )


@pytest.mark.medium
def test_overview_and_accounts_link_to_the_coverage(viewer: Viewer):
    for path in ("/", "/accounts"):
        assert f'href="/coverage?day={DAY}"' in viewer.get(path, day=DAY).text


def test_an_unknown_day_or_source_is_explained(viewed: ViewedStore):
    assert "No source matches." in viewed.viewer.get("/coverage", source="nowhere").text
    assert viewed.viewer.get("/coverage", day="2020-01-01").status_code == 404
