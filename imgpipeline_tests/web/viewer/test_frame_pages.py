"""Pages about frames keep their state in the URL, trace numbers, and escape untrusted text."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape

import pytest

from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import PROVENANCE, write_chain
from imgpipeline_tests.web.viewer.conftest import ViewedStore
from imgpipeline_tests.web.viewer.filmed import FilmedSite, filmed_site
from imgpipeline_tests.web.viewer.viewing import links, viewing

_BAR = re.compile(r'<a href="(/review[^"]*)" tabindex="-1" aria-label="([^"]*)"')


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
    assert "verified just now to contain this frame" in page
    for link in links(page, "/review?day=2026-01-09&label="):
        assert "equal to the stored count" in viewed.viewer.get(link).text


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
    assert "8 detections in 8 frames, each verified in its segment" in page
    assert len(links(page, f"/frames/{DAY}/")) == 8


def test_a_filter_without_frames_offers_a_way_back(viewed: ViewedStore):
    page = viewed.viewer.get("/review", day=DAY, source="nobody").text
    assert "No frame matches." in page
    assert f"/review?day={DAY}" in links(page, "/review")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilmedSite]:
    """For reading only."""
    with filmed_site(tmp_path_factory.mktemp("timeline")) as made:
        yield made


def bars(site: FilmedSite, **filters: object) -> list[tuple[str, str]]:
    page = site.viewer.get("/review", **filters)
    assert page.status_code == 200
    return [(unescape(address), unescape(label)) for address, label in _BAR.findall(page.text)]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param({"day": DAY}, ["12:00 to 12:10: 48 frames, 48 car, 12 person"], id="day"),
        pytest.param({"day": DAY, "label": "person"}, ["12:00 to 12:10: 12 frames, 12 person"], id="label"),
        pytest.param({"day": DAY, "hour": 3}, ["12:00 to 12:10: 48 frames, 48 car, 12 person"], id="all-times"),
        pytest.param(
            {"from": DAY},
            ["22:00 to 23:00: 12 frames, 12 dog", "12:00 to 13:00: 48 frames, 48 car, 12 person"],
            id="days",
        ),
        pytest.param({"day": DAY, "source": "yard"}, [], id="none"),
    ],
)
def test_a_bar_says_what_it_counts(site: FilmedSite, filters: dict[str, object], expected: list[str]):
    assert [label for _, label in bars(site, **filters)] == expected


@pytest.mark.medium
@pytest.mark.parametrize("filters", [{"from": DAY}, {"day": DAY, "zone": "lower half"}], ids=["days", "zone"])
def test_a_bar_leads_to_frames_with_the_same_sum(site: FilmedSite, filters: dict[str, object]):
    found = bars(site, **filters)
    assert found
    for address, label in found:
        frames, *counts = (int(number) for number in re.findall(r"(\d+) (?:frames|[a-z]+)", label.split(": ")[1]))
        assert f"<b>{frames}</b> frames with <b>{sum(counts)}</b>" in site.viewer.http.get(address).text


@pytest.mark.medium
def test_a_page_begins_at_an_exact_moment(site: FilmedSite):
    page = site.viewer.json("/api/v1/frames", **{"from": DAY, "to": NEXT_DAY, "at": "22:30:20", "limit": 3})
    times = [one["timestamp"][11:19] for one in page["frames"]]
    assert times == ["22:30:20", "22:30:15", "22:30:10"]
    assert page["matching"] == 60
    newer = site.viewer.json("/api/v1/frames", **{"from": DAY, "to": NEXT_DAY, "before": page["newer"], "limit": 100})
    assert len(newer["frames"]) == 7
    assert site.viewer.json("/api/v1/frames", day=DAY, at="24:00")["frames"][0]["frame_id"] == site.of()[0].frame_id
    both = site.viewer.get("/api/v1/frames", day=DAY, at="12:00", after=page["older"])
    assert (both.status_code, "Only one of after, before and at" in both.text) == (400, True)
