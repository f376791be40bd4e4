"""Two models on one day: each number leads to its frames, the largest disagreement first."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape

import pytest
from playwright.sync_api import expect

from imgpipeline.contracts.keys import summary_key
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.redetect.run import redetect_day
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.daily.builds import build_comparison
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import write_chain
from imgpipeline_tests.redetect.days import DAY, NOON, add_frames, build_live, picture, read_rows, redetector
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

pytestmark = pytest.mark.medium

LOW = "demo@0.002"
"""Finds much that live does not."""
CELLS = ("count_a", "count_b", "matched", "only_a", "only_b")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("compared")
    return load_settings(store_url=(folder / "store").as_uri(), api_keys_file=folder / "keys.json")


@pytest.fixture(scope="module")
def viewer(settings: Settings) -> Iterator[Viewer]:
    """A day that the demo's model has looked at twice: live, and with a low threshold."""
    store = open_store(settings)
    build_live(settings, store, range(0, 60, 4))
    redetect_day(redetector(settings, store, LOW), DAY)
    with viewing(settings) as made:
        yield made


def test_the_numbers_are_those_of_the_stored_comparison(viewer, settings):
    store = open_store(settings)
    build_comparison(settings, store, DAY, now=NOON)
    stored = {row["label"]: row for row in read_rows(store, summary_key("model_comparison", DAY))}
    found = viewer.json("/api/v1/comparisons", day=DAY)
    assert (found["a"], found["b"], found["models"]) == ("live", LOW, ["live", LOW])
    assert {one["label"]: {n: one[n] for n in CELLS} for one in found["labels"]} == {
        label: {n: row[n] for n in CELLS} for label, row in stored.items()
    }
    assert sum(row["only_b"] for row in stored.values()) > 0


def test_the_page_names_the_command_that_judges_both_models_by_what_people_counted(viewer):
    page = unescape(viewer.get("/comparisons", day=DAY).text)
    assert f"imgpipeline accuracy compare --a live --b {LOW} --day {DAY}" in page


def test_each_number_leads_to_frames_with_the_same_sum(viewer):
    page = viewer.get("/comparisons", day=DAY).text
    cells = re.findall(r'<td class="right"><a href="(/comparisons[^"]*)"[^>]*>([\d,]+)</a>', page)
    assert len(cells) > 10
    for address, number in cells:
        linked = viewer.get(unescape(address)).text
        assert re.search(rf"<b>\d+</b> frames with <b>{number}</b> boxes", linked)
        found = viewer.get(unescape(address).replace("/comparisons", "/api/v1/comparisons")).json()
        assert found["boxes"] == int(number.replace(",", ""))
        assert found["matching"] == len(found["frames"]) == linked.count('class="card"')


def test_the_largest_disagreement_is_first_and_pages_follow_each_other(viewer):
    whole = viewer.json("/api/v1/comparisons", day=DAY)
    order = [(-one["differing"], one["lowest_iou"] or 1.0, one["frame_id"]) for one in whole["frames"]]
    assert order == sorted(order)
    assert len({differing for differing, *_ in order}) > 1
    for one in whole["frames"]:
        alone = [box for box in one["boxes"] if box["iou"] is None]
        assert len(alone) == one["differing"]
    paged, after = [], 0
    while after is not None:
        page = viewer.json("/api/v1/comparisons", day=DAY, limit=4, after=after)
        paged += page["frames"]
        after = page["next"]
    assert paged == whole["frames"]


def test_the_two_models_can_be_swapped(viewer):
    there, back = (viewer.json("/api/v1/comparisons", day=DAY, a=a, b=b) for a, b in (("live", LOW), (LOW, "live")))
    assert [(one["only_a"], one["only_b"]) for one in there["labels"]] == [
        (one["only_b"], one["only_a"]) for one in back["labels"]
    ]


def test_models_that_cannot_be_compared_are_explained(viewer):
    for query, status, said in (
        ({"b": "nothing"}, 404, "the day has live, demo@0.002"),
        ({"a": "live", "b": "live"}, 404, "cannot be compared"),
        ({"b": "../../etc"}, 404, "cannot be compared"),
        ({"counted": "most"}, 400, "counted"),
    ):
        answer = viewer.get("/api/v1/comparisons", day=DAY, **query)
        assert (answer.status_code, said in answer.json()["error"]) == (status, True), query
        assert viewer.get("/comparisons", day=DAY, **query).status_code == status


@pytest.mark.slow
def test_labels_that_only_the_other_model_found_have_different_colours(tmp_path):
    """Live detection found no label at all, so none of them is in the tables."""
    settings = load_settings(store_url=(tmp_path / "store").as_uri(), api_keys_file=tmp_path / "keys.json")
    other, store = (
        open_store(settings.model_copy(update={"store_url": f"{settings.store_url}-b"})),
        open_store(settings),
    )
    frames = add_frames(settings, other, range(0, 60, 12))
    for number, one in zip(range(0, 60, 12), frames, strict=True):
        store.put(one.source_image_path, picture(number))
    write_chain(store, [replace(one, detections=()) for one in frames])
    rebuild_day(store, DAY, now=NOON)
    redetect_day(redetector(settings, store, LOW), DAY)
    with viewing(settings) as made:
        page = made.get("/comparisons", day=DAY).text
        labels = [one["label"] for one in made.json("/api/v1/comparisons", day=DAY)["labels"]]
    table = page.split("</table>")[0]
    colours = re.findall(r'fill="(#[0-9a-f]{6})"/></svg><bdi>', table)
    assert len(labels) > 1
    assert len(set(colours)) == len(colours) == len(labels)
    assert set(re.findall(r'stroke="(#[0-9a-f]{6})"', page)) == set(colours)


def test_a_day_with_one_model_names_the_command(folder):
    write_chain(open_store(folder), [seen(0)])
    with viewing(folder) as viewer:
        assert "imgpipeline redetect --model NAME" in viewer.get("/comparisons").text


@pytest.mark.slow
def test_from_a_number_to_its_frames_and_the_boxes_of_each_model(browser, viewer):
    with browser.new_context(base_url=str(viewer.http.base_url)) as context:
        page = context.new_page()
        page.goto(f"/comparisons?day={DAY}")
        page.locator('table a[href*="counted=only_b"]').first.click()
        page.wait_for_url("**counted=only_b**")
        expect(page.locator(".card").first).to_be_visible()
        dashed = page.locator('.card [data-toggle="side b"]').first
        expect(dashed).to_be_visible()
        page.get_by_role("checkbox", name="B demo@0.002").uncheck()
        expect(dashed).to_be_hidden()
        expect(page.locator('.card [data-toggle="side a"]').first).to_be_visible()
        page.get_by_role("link", name="clear").click()
        expect(page.get_by_role("status")).to_contain_text("only one model found")
        page.locator(".card").first.click()
        expect(page.locator("#image")).to_be_visible()
