"""The pages lead from a number to its frames, keep their state in the URL, and show text from outside as text."""

import re
from dataclasses import replace
from html import unescape

import pytest

from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import PROVENANCE, write_chain
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer
from imgpipeline_tests.web.viewer.conftest import HOSTILE_LABEL, HOSTILE_SOURCE, ViewedStore
from imgpipeline_tests.web.viewer.viewing import viewing


def links(page: str, start: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'href="([^"]*)"', page) if unescape(found).startswith(start)]


@pytest.mark.medium
def test_every_number_of_the_overview_leads_to_frames_with_the_same_sum(viewed: ViewedStore):
    page = viewed.viewer.get("/", day=DAY).text
    numbers = re.findall(r'<td class="right[^"]*"><a href="([^"]*)"[^>]*>([\d,]+)</a>', page)
    assert len(numbers) > 10
    for address, number in numbers:
        linked = viewed.viewer.get(unescape(address)).text
        assert f"equal to the count of the summary, {number}</span>" in linked


def test_the_overview_shows_the_figures_of_its_day(viewed: ViewedStore):
    page = viewed.viewer.get("/", day=DAY).text
    assert "Friday, 9 January 2026" in page
    assert f"<b>{len(viewed.frames)}</b> frames" in page
    assert re.search(r"<b>1</b> dead letters", page)
    assert "unique objects: not built yet" in page
    assert "not audited yet" in page
    heading = page.split("</section>")[0]
    assert links(heading, "/?day=") == [f"/?day={NEXT_DAY}"]


def test_the_overview_names_the_latest_alerts_and_the_days_that_wait_for_a_build(viewed: ViewedStore):
    page = viewed.viewer.get("/", day=DAY).text
    assert links(page, "/alerts/") == ["/alerts/2", "/alerts/1"]
    assert "the &lt;b&gt;image&lt;/b&gt; differs" in page
    waiting = page.split("<dt>Stale days</dt>")[1]
    assert links(waiting, "/?day=") == [f"/?day={NEXT_DAY}", f"/?day={DAY}"]


@pytest.mark.medium
def test_the_overview_is_shown_when_the_store_has_just_gone_away(
    s3: S3Server, bucket: S3Bucket, toxiproxy: ToxiproxyServer
):
    write_chain(open_store(s3_settings(bucket)), [seen(0)])
    proxy = toxiproxy.create_proxy(s3.port)
    with viewing(s3_settings(bucket, s3_endpoint=f"http://{proxy.address}", store_patience_s=0.5)) as viewer:
        assert viewer.status()["problem"] is None
        proxy.disconnect()
        page = viewer.get("/")
    assert page.status_code == 200
    assert "<b>1</b> frames" in page.text
    assert "not asked: the store does not answer" in page.text


def test_the_latest_day_is_shown_without_a_day(viewed: ViewedStore):
    assert "Saturday, 10 January 2026" in viewed.viewer.get("/").text
    assert f'<option value="{NEXT_DAY}" selected>' in viewed.viewer.get("/review").text


def test_the_filters_of_the_grid_go_with_every_link(viewed: ViewedStore):
    page = viewed.viewer.get("/review", day=DAY, label="car", source="gate", hour="").text
    cards = links(page, f"/frames/{DAY}/")
    expected = [
        one.frame_id for one in viewed.frames if one.source == "gate" and "car" in {f.label for f in one.detections}
    ]
    assert [card.split("/")[3].split("?")[0] for card in cards] == expected
    frame = viewed.viewer.get(cards[1]).text
    assert [link.split("/")[3].split("?")[0] for link in links(frame, f"/frames/{DAY}/")] == [expected[0], expected[2]]
    assert all("source=gate" in link and "label=car" in link for link in links(frame, f"/frames/{DAY}/"))
    assert f"/review?day={DAY}&source=gate&label=car" in links(frame, "/review")


def test_a_frame_shows_its_boxes_and_lineage(viewed: ViewedStore):
    one = viewed.site.frames[2]
    page = viewed.viewer.get(f"/frames/{DAY}/{one.frame_id}").text
    assert page.count("<rect x=") == len(one.detections)
    assert f'viewBox="0 0 {one.image_width} {one.image_height}"' in page
    assert f"<code>frames/0/{one.offset}</code>" in page
    assert "it was read now and holds this frame" in page
    for link in links(page, "/review?day=2026-01-09&label="):
        assert "equal to the count of the summary" in viewed.viewer.get(link).text


@pytest.mark.medium
def test_the_run_of_a_frame_is_linked_in_dagster(folder: Settings):
    dagster, run = "https://dagster.example/sub", "0b5d4a1e-6f0e-4f5d-9c0e-3a5b8f1c2d3e"
    write_chain(open_store(folder), [seen(0)], provenance=replace(PROVENANCE, run_id=run))
    address = f"/frames/{DAY}/{seen(0).frame_id}"
    with viewing(folder.model_copy(update={"dagster_url": f"{dagster}/"})) as viewer:
        assert links(viewer.get(address).text, dagster) == [f"{dagster}/runs/{run}"]
    with viewing(folder) as viewer:
        assert f"<code>{run}</code>" in viewer.get(address).text


def test_a_number_is_traced_to_the_ledger(viewed: ViewedStore):
    page = viewed.viewer.get("/explain", day=DAY, label="car").text
    assert "each of the 8 detections, in 8 frames, was found in its segment" in page
    assert len(links(page, f"/frames/{DAY}/")) == 8


@pytest.mark.parametrize("path", ["/", "/review", "/frame", f"/explain?day={DAY}&label={HOSTILE_LABEL}"])
def test_names_from_outside_are_text(viewed: ViewedStore, path: str):
    path = f"/frames/{DAY}/{viewed.hostile.frame_id}" if path == "/frame" else path
    page = viewed.viewer.get(path if "?" in path or "/frames/" in path else f"{path}?day={DAY}").text
    assert HOSTILE_LABEL not in page
    assert HOSTILE_SOURCE not in page
    assert "<script>" not in page
    assert "document.title=1" in page


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/review?hour=24", 400, "hour: Input should be less than or equal to 23."),
        ("/review?day=2026-02-30", 400, "day is '2026-02-30'."),
        ("/review?day=2026-03-01", 404, "take one of its days"),
        ("/?colour=red", 400, "colour: Extra inputs are not permitted."),
        (f"/frames/{DAY}/abc", 400, "frame_id: "),
        (f"/frames/{DAY}/{'0' * 32}", 404, "has no frame"),
        (f"/explain?day={DAY}&label=zebra", 404, "There is no zebra"),
        ("/nothing", 404, "Not Found."),
    ],
)
def test_an_error_is_a_page_that_says_what_to_do(viewed: ViewedStore, path: str, status: int, said: str):
    answer = viewed.viewer.get(path)
    page = unescape(answer.text)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert said in page
    assert "<b>Next:</b>" in page


def test_a_filter_without_frames_offers_a_way_back(viewed: ViewedStore):
    page = viewed.viewer.get("/review", day=DAY, source="nobody").text
    assert "No frame matches." in page
    assert f"/review?day={DAY}" in links(page, "/review")
