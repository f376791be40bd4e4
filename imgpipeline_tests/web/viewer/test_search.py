"""The search box finds what plain Python finds, and every text is parsed or refused with a reason."""

import contextlib
from dataclasses import replace
from datetime import date
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import expect

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.errors import UsageError
from imgpipeline.objectstore import open_store
from imgpipeline.web.viewer.queries import words_of
from imgpipeline.web.viewer.search import FILTERS, parse_search
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import append, dead_letter, notice, write_chain
from imgpipeline_tests.web.viewer.conftest import HOSTILE_LABEL
from imgpipeline_tests.web.viewer.viewing import links, viewing


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        pytest.param("label:car", lambda one: "car" in {box.label for box in one.detections}, id="label"),
        pytest.param(f"after:{NEXT_DAY} YARD", lambda one: one.day >= NEXT_DAY and one.source == "yard", id="word"),
        pytest.param("zebra", lambda _: False, id="nothing"),
        pytest.param("'; DROP TABLE frames --", lambda _: False, id="SQL"),
    ],
)
def test_frames_are_those_that_python_finds(viewed, text, matches):
    expected = {one.frame_id for one in (*viewed.site.frames, viewed.hostile) if matches(one)}
    found = viewed.viewer.json("/api/v1/search", q=text, limit=1000)
    assert {one["frame_id"] for one in found["frames"]["frames"]} == expected
    assert found["frames"]["matching"] == len(expected)
    listed = viewed.viewer.get("/api/v1/frames", limit=1000, **found["filters"]).json()
    assert listed["matching"] == len(expected)
    assert listed["detections"] == found["frames"]["detections"]


@pytest.mark.medium
def test_words_are_found_in_attributes_labels_reasons_and_names_of_any_script(folder):
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
            return tuple(found[name]["matching"] for name in ("frames", "dead_letters", "notices"))

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
    ("text", "suggested"),
    [
        ("label:prson", "label:person"),
        ("label:car source:gate zebra", None),
        (f'source:"yrd" day:{DAY} label:prson', f"source:yard day:{DAY} label:person"),
        ("label:HOSTILE", None),
        ("zebra", None),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_a_similar_one(viewed, text, suggested):
    page = viewed.viewer.get("/search", q=text).text
    assert "Nothing matches" in page
    offered = page.split("Did you mean")[1].split("</p>")[0] if "Did you mean" in page else ""
    assert [unquote_plus(link) for link in links(offered, "/search?q=")] == (
        [f"/search?q={suggested}"] if suggested else []
    )
    assert suggested is None or "Nothing matches" not in viewed.viewer.get("/search", q=suggested).text


@pytest.mark.medium
def test_a_search_leads_to_its_frames_and_markup_stays_text(browser, viewed):
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


DAYS = (date(2026, 1, 9), date(2026, 1, 10))


def read(text: str) -> dict[str, object]:
    return parse_search(text, DAYS).model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("label:truck", {"label": "truck", "from": "2026-01-09"}, id="a filter is for all days"),
        pytest.param('source:"back yard"', {"source": "back yard", "from": "2026-01-09"}, id="quotes hold together"),
        pytest.param("after:2026-01-10", {"from": "2026-01-10"}, id="after includes its day"),
        pytest.param("before:2026-01-10", {"to": "2026-01-09"}, id="before excludes its day"),
        pytest.param("day:2026-01-10 min:0.5", {"day": "2026-01-10", "min_confidence": 0.5}, id="one day"),
        pytest.param("rain label:car wet", {"label": "car", "text": "rain wet", "from": "2026-01-09"}, id="words"),
        pytest.param('"label:car"', {"text": "label:car", "from": "2026-01-09"}, id="quoted is no filter"),
        pytest.param("s3://site/a.jpg", {"text": "s3://site/a.jpg", "from": "2026-01-09"}, id="a colon in a word"),
        pytest.param("http://site/a", {"text": "http://site/a", "from": "2026-01-09"}, id="a URL is no filter"),
        pytest.param('"colour:red"', {"text": "colour:red", "from": "2026-01-09"}, id="quoted is no unknown filter"),
        pytest.param("Label:car", {"label": "car", "from": "2026-01-09"}, id="case of filters"),
        pytest.param('"wet road" x', {"text": '"wet road" x', "from": "2026-01-09"}, id="a phrase"),
        pytest.param("", {"from": "2026-01-09"}, id="nothing"),
    ],
)
def test_filters_and_words(text, expected):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("after:tomorrow", "after"),
        ("min:much", "min_confidence"),
        ("status:lost", "status"),
        ("hour:25", "hour"),
        ("label:car label:dog", "given twice"),
        ("after:2026-01-10 before:2026-01-09", "later"),
        ("before:0001-01-01", "no day before"),
        ("rain colour:red", 'no filter colour.* label, source, .* or quote it .*: "colour:red"'),
    ],
)
def test_a_wrong_value_is_named(text, why):
    with pytest.raises(UsageError, match=why):
        read(text)


@given(st.lists(st.text(max_size=20) | st.sampled_from([f"{name}:" for name in FILTERS]), max_size=6).map("".join))
def test_any_text_is_read_or_refused_with_a_reason(text):
    with contextlib.suppress(UsageError):
        words = words_of(parse_search(text, DAYS).text or "")
        assert [word for word in words if word not in text.replace("\0", " ").replace('"', "")] == []
