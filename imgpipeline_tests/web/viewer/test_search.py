"""Search finds what plain Python finds, shows how much it is, and leads to exactly that."""

from dataclasses import replace

import pytest
from playwright.sync_api import Browser, expect

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import append, dead_letter, notice, write_chain
from imgpipeline_tests.web.viewer.conftest import HOSTILE_LABEL, ViewedStore
from imgpipeline_tests.web.viewer.viewing import viewing


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        pytest.param("label:car", lambda one: "car" in {box.label for box in one.detections}, id="label"),
        pytest.param("source:yard", lambda one: one.source == "yard", id="source"),
        pytest.param(f"day:{NEXT_DAY}", lambda one: one.day == NEXT_DAY, id="day"),
        pytest.param(f"before:{NEXT_DAY}", lambda one: one.day < NEXT_DAY, id="before"),
        pytest.param(f"after:{NEXT_DAY} YARD", lambda one: one.day >= NEXT_DAY and one.source == "yard", id="word"),
        pytest.param("min:0.9", lambda one: any(box.confidence >= 0.9 for box in one.detections), id="confidence"),
        pytest.param("status:gated", lambda one: one.status.value == "gated", id="status"),
        pytest.param(
            "images/ gate", lambda one: "images/" in one.source_image_path and "gate" in one.source, id="words"
        ),
        pytest.param("zebra", lambda _: False, id="nothing"),
        pytest.param("'; DROP TABLE frames --", lambda _: False, id="SQL"),
    ],
)
def test_frames_are_those_that_python_finds(viewed: ViewedStore, text: str, matches):
    expected = {one.frame_id for one in (*viewed.site.frames, viewed.hostile) if matches(one)}
    found = viewed.viewer.json("/api/v1/search", q=text, limit=1000)
    assert {one["frame_id"] for one in found["frames"]["frames"]} == expected
    assert found["frames"]["matching"] == len(expected)
    listed = viewed.viewer.get("/api/v1/frames", limit=1000, **found["filters"]).json()
    assert listed["matching"] == len(expected)
    assert listed["detections"] == found["frames"]["detections"]


@pytest.mark.medium
def test_words_are_found_in_attributes_labels_reasons_and_names_of_any_script(folder: Settings):
    chain = write_chain(
        open_store(folder),
        [
            seen(0, ["Straßenbahn"], attributes={"weather": "Nieselregen über Köln"}),
            seen(1, ["car"], source="鸟🦜", attributes={"weather": "sun"}),
            replace(seen(2, []), source_image_path="images/gate/IMG_4711.JPG"),
        ],
    )
    append(chain, [dead_letter(3), notice(4, kind=NoticeKind.OFFLINE)])
    with viewing(folder) as viewer:

        def counts(text: str) -> tuple[int, int, int]:
            found = viewer.json("/api/v1/search", q=text)
            return tuple(found[name]["matching"] for name in ("frames", "dead_letters", "notices"))  # type: ignore[return-value]  # three

        assert counts("nieselregen köln") == (1, 0, 0)
        assert counts("straßen") == (1, 0, 0)
        assert counts("鸟") == (1, 0, 0)
        assert counts("img_4711.jpg") == (1, 0, 0)
        assert counts("CUT") == (0, 1, 0)
        assert counts("cable") == (0, 0, 1)
        assert counts("nieselregen sun") == (0, 0, 0)
        assert counts("köln über") == (1, 0, 0)
        assert counts('"köln über"') == (0, 0, 0)
        assert counts('"ÜBER köln"') == (1, 0, 0)


@pytest.mark.parametrize(
    ("text", "why"), [("", "q is empty"), ("after:soon", "after"), ("hour:99", "hour"), ("a" * 501, "500")]
)
def test_a_search_that_cannot_be_asked_says_why(viewed: ViewedStore, text: str, why: str):
    answer = viewed.viewer.http.get("/api/v1/search", params={"q": text})
    assert (answer.status_code, why in answer.text) == (400, True)


@pytest.mark.medium
def test_a_search_leads_to_its_frames_and_markup_stays_text(browser: Browser, viewed: ViewedStore):
    with browser.new_context(base_url=str(viewed.viewer.http.base_url)) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Search", exact=True).fill(f"label:car day:{DAY}")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search?q=*")
        expected = [one for one in viewed.frames if "car" in {box.label for box in one.detections}]
        expect(page.get_by_role("status")).to_contain_text(f"{len(expected)} frames")
        page.get_by_role("link", name="show all in Review").click()
        page.wait_for_url("**/review?*")
        expect(page.get_by_role("status")).to_contain_text(f"{len(expected)} frames")
        page.goto("/search?q=script")
        expect(page.locator(".card")).to_have_count(1)
        expect(page.locator(".card")).to_contain_text(HOSTILE_LABEL[:20])
        assert page.title() != "1"
        page.locator(".card").click()
        page.wait_for_url("**/frames/**")
