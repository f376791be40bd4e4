"""Counting in a real browser: by keys alone, by clicks, on a tablet, without the viewer, and fast enough."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, Route, expect

from imgpipeline.accuracy.answers import Answer, keep_answer, read_answers
from imgpipeline_tests.ledger.samples import DAY, NOON
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.axe import serious_problems
from imgpipeline_tests.web.viewer.planned import SOURCE, PlannedSite, line_site, planned_settings, planned_site

pytestmark = pytest.mark.slow

ADDRESS = f"/count/{DAY}?source={SOURCE}"
ANSWERS = f"**/api/v1/count/{DAY}"
PICTURES = "**/image"
SIZES = ((390, 844), (820, 1180), (1280, 800))
MOST_MS = 150
COUNTS = {"car": 7, "person": 8}
WATCH = """() => {
  window.times = [];
  const figure = document.querySelector("figure");
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const start = performance.now();
    new MutationObserver(async (_, observer) => {
      observer.disconnect();
      await figure.querySelector("img").decode();
      requestAnimationFrame(() => requestAnimationFrame(() => window.times.push(performance.now() - start)));
    }).observe(figure, { childList: true });
  }, true);
}"""
"""Measures from Enter until the next picture is decoded and painted."""


@pytest.fixture
def site(tmp_path) -> Iterator[PlannedSite]:
    with planned_site(planned_settings(tmp_path)) as made:
        yield made


@pytest.fixture
def page(browser: Browser, site: PlannedSite) -> Iterator[Page]:
    """The page, at its first frame that is not blind; the person is `ann`."""
    with browser.new_context(base_url=str(site.viewer.http.base_url)) as context:
        page, failed = context.new_page(), []
        page.on("pageerror", lambda error: failed.append(str(error)))
        begin(page, site)
        yield page
        assert failed == []


def begin(page: Page, site: PlannedSite) -> None:
    """Give the name, answer blind frames until one with boxes is shown, and wait until these answers are stored."""
    page.goto(ADDRESS)
    page.get_by_label("Your name").fill("ann")
    page.keyboard.press("Enter")
    for _ in range(site.first()):
        show_frame(page)
        page.keyboard.press("0")
        page.keyboard.press("Enter")
    show_frame(page)
    answers(site, site.first())


def show_frame(page: Page) -> None:
    """Wait for the picture of a frame."""
    expect(page.locator("#counting")).to_be_visible()
    wait_for(
        page, "document.querySelector('figure img')?.complete && document.querySelector('figure img').naturalWidth > 0"
    )


def place_of(element: Locator) -> FloatRect:
    """Return where an element is; boxes are drawn again when their picture is decoded."""
    found: list[FloatRect | None] = []
    wait_until(lambda: bool(found.append(element.bounding_box()) or found[-1]), limit_s=30, what="an element")
    place = found[-1]
    assert place
    return place


def wait_for(page: Page, condition: str) -> None:
    """Wait for a condition; Playwright's own way needs scripts that the page forbids."""
    wait_until(lambda: bool(page.evaluate(condition)), limit_s=30, what=condition)


def numbers(page: Page) -> list[str]:
    """Return the numbers of car and person on the page."""
    return [page.get_by_label(label, exact=True).input_value() for label in ("car", "person")]


def answers(site: PlannedSite, count: int) -> dict[str, Answer]:
    """Wait for this many stored answers, and return them by frame."""
    wait_until(lambda: len(read_answers(site.store, DAY, SOURCE)) >= count, limit_s=30, what="the answers")
    return {one.frame_id: one for one in read_answers(site.store, DAY, SOURCE)}


def test_thirty_frames_are_counted_by_keys_alone_without_waiting(browser, tmp_path):
    with (
        planned_site(planned_settings(tmp_path), size=(1920, 1080)) as site,
        browser.new_context(base_url=str(site.viewer.http.base_url)) as context,
    ):
        page = context.new_page()
        page.goto(ADDRESS)
        page.get_by_label("Your name").fill("ann")
        page.keyboard.press("Enter")
        show_frame(page)
        page.evaluate(WATCH)
        for number, sample in enumerate(site.plan.samples[:30], start=1):
            if site.plan.is_blind(sample):
                page.keyboard.press("1")
            page.keyboard.press("Enter")
            expect(page.locator("#progress")).to_have_text(f"{number} of 40 counted")
            wait_for(page, f"times.length === {number}")
        times = sorted(page.evaluate("times"))
        assert list(answers(site, 30)) == sorted(site.plan.samples[:30])
        # The median: while other tests run on the same cores, a few times say nothing about the page.
        assert times[len(times) // 2] <= MOST_MS, times


def test_digits_and_arrows_change_numbers_and_backspace_corrects_the_frame_before(page, site):
    first, second = site.plan.samples[site.first() : site.first() + 2]
    before = numbers(page)
    assert before[0] == "1"
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.keyboard.press("Backspace")
    assert numbers(page) == ["1", before[1]]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("7")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Store and go on")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    assert numbers(page) == ["2", "6"]
    page.keyboard.press("Enter")
    show_frame(page)
    assert answers(site, site.first() + 1)[first].counts == {"car": 2, "person": 6}
    page.keyboard.press("Backspace")
    assert numbers(page) == ["2", "6"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("9")
    page.keyboard.press("Enter")
    show_frame(page)
    page.keyboard.press("?")
    wait_until(lambda: second in answers(site, 0), limit_s=30, what="the second answer")
    assert answers(site, 0)[first].counts == {"car": 2, "person": 9}
    assert answers(site, 0)[second].cannot_tell


def test_after_a_reload_the_person_goes_on_and_can_go_back_to_stored_answers(page, site):
    show_frame(page)
    empty = place_of(page.locator("figure"))
    page.mouse.click(empty["x"] + empty["width"] / 2, empty["y"] + empty["height"] / 2)
    counted = numbers(page)
    page.keyboard.press("Enter")
    answers(site, site.first() + 1)
    page.reload()
    show_frame(page)
    expect(page.locator("#progress")).to_have_text(f"{site.first() + 1} of 40 counted")
    page.keyboard.press("Backspace")
    assert numbers(page) == counted
    expect(page.locator("figure circle")).to_have_count(1)
    page.keyboard.press("?")
    show_frame(page)
    sample = site.plan.samples[site.first()]
    wait_until(lambda: answers(site, 1)[sample].cannot_tell, limit_s=30, what="the corrected answer")
    page.reload()
    show_frame(page)
    page.get_by_role("button", name="Back").click()
    expect(page.locator("#hint")).to_have_text("Your answer was: cannot tell.")


def test_a_person_can_go_back_when_no_frame_is_left(browser, site):
    for number, sample in enumerate(site.plan.samples):
        keep_answer(site.store, Answer(DAY, SOURCE, sample, "ann", NOON + timedelta(seconds=number), COUNTS))
    with browser.new_context(base_url=str(site.viewer.http.base_url)) as context:
        page = context.new_page()
        page.goto(ADDRESS)
        page.get_by_label("Your name").fill("ann")
        page.keyboard.press("Enter")
        expect(page.get_by_text("No frame is left for you. Thank you.")).to_be_visible()
        page.keyboard.press("Backspace")
        show_frame(page)
        assert numbers(page) == ["7", "8"]
        page.keyboard.press("Enter")
        expect(page.get_by_text("No frame is left for you. Thank you.")).to_be_visible()


def test_a_click_on_a_box_makes_it_wrong_and_a_click_elsewhere_adds_an_object(page, site):
    sample = site.plan.samples[site.first()]
    box, picture = place_of(page.locator("figure path").first), place_of(page.locator("figure"))
    inside = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    empty = picture["x"] + picture["width"] / 2, picture["y"] + picture["height"] / 2
    start = numbers(page)[1]
    for where, expected in ((inside, "0"), (inside, "1"), (inside, "0"), (empty, "1"), (empty, "0"), (empty, "1")):
        page.mouse.click(*where)
        assert numbers(page) == [expected, start]
    page.keyboard.press("Enter")
    stored = answers(site, site.first() + 1)[sample]
    assert (stored.wrong, stored.counts["car"]) == ((0,), 1)
    ((label, x, y),) = stored.missing
    assert (label, x, y) == ("car", pytest.approx(320, abs=2), pytest.approx(240, abs=2))


@pytest.mark.parametrize(
    ("given", "is_taken"), [("100000", False), ("1.5", False), ("-1", False), ("", False), ("12", True)]
)
def test_only_whole_numbers_are_taken(page, site, given, is_taken):
    page.get_by_label("car", exact=True).fill(given)
    page.keyboard.press("Enter")
    expect(page.locator("#hint")).to_have_text("" if is_taken else "Enter the number of car.")
    expect(page.locator("#progress")).to_have_text(f"{site.first() + is_taken} of 40 counted")


def test_a_blind_frame_shows_no_help_and_needs_a_number(page, site):
    at = site.first()
    for sample in site.plan.samples[at : site.plan.samples.index(site.plan.samples[site.first(blind=True)], at)]:
        assert not site.plan.is_blind(sample)
        page.keyboard.press("Enter")
        show_frame(page)
    expect(page.get_by_text("Count without help")).to_be_visible()
    expect(page.locator("figure path")).to_have_count(0)
    assert numbers(page) == ["", ""]
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="Enter the number of car, person.")).to_be_visible()
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    sample = site.plan.samples[site.first(blind=True)]
    stored = answers(site, site.first(blind=True) + 1)[sample]
    assert (stored.blind, stored.counts) == (True, {"car": 2, "person": 0})


def test_answers_stay_in_the_browser_until_the_viewer_stores_them(page, site):
    before = len(answers(site, 0))
    page.route(ANSWERS, lambda route: route.abort())
    for _ in range(2):
        page.keyboard.press("Enter")
        show_frame(page)
    expect(page.get_by_text("Answers not stored yet: 2. The viewer does not answer.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Answers not stored yet: 2. The viewer does not answer.")).to_be_visible()
    assert len(answers(site, 0)) == before
    page.unroute(ANSWERS)
    answers(site, before + 2)
    expect(page.locator("#unsaved")).to_be_hidden()


def test_an_answer_that_the_viewer_refuses_is_shown_with_the_reason_and_delays_no_other(page, site):
    first, second = site.plan.samples[site.first() : site.first() + 2]
    refuse = '{"error": "The key may not.", "next": "get another"}'

    def refuse_first(route: Route) -> None:
        if first in (route.request.post_data or ""):
            route.fulfill(status=403, body=refuse, content_type="application/json")
        else:
            route.continue_()

    page.route(ANSWERS, refuse_first)
    page.keyboard.press("Enter")
    show_frame(page)
    page.keyboard.press("Enter" if not site.plan.is_blind(second) else "?")
    expect(page.get_by_text("Answers not stored yet: 1. The key may not. Next: get another.")).to_be_visible()
    # Only while Playwright has something to do, it passes requests on.
    wait_until(lambda: page.evaluate("true") and second in answers(site, 0), limit_s=30, what="the second answer")
    page.unroute(ANSWERS)
    assert first in answers(site, site.first() + 2)


def test_nobody_can_count_a_picture_that_is_not_shown(browser, site):
    with browser.new_context(base_url=str(site.viewer.http.base_url)) as context:
        page, waiting = context.new_page(), list[Route]()
        page.route(PICTURES, lambda route: waiting.append(route))  # noqa: PLW0108 - Playwright marks its handler
        page.goto(ADDRESS)
        page.get_by_label("Your name").fill("ann")
        page.keyboard.press("Enter")
        expect(page.locator("#counting")).to_be_visible()
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        expect(page.locator("#progress")).to_have_text("0 of 40 counted")
        wait_until(lambda: bool(page.wait_for_timeout(10) or waiting), limit_s=30, what="a request")
        for route in waiting:
            route.abort()
        expect(page.locator("figure.missing")).to_be_visible()
        page.keyboard.press("Enter")
        expect(page.get_by_text("Cannot tell: the image cannot be shown.")).to_be_visible()
        page.get_by_role("button", name="Cannot tell").click()
        expect(page.locator("#progress")).to_have_text("1 of 40 counted")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_page_fits_a_phone_a_tablet_and_a_screen(page, width, height):
    page.set_viewport_size({"width": width, "height": height})
    wait_for(page, "document.querySelector('.steps button').getBoundingClientRect().bottom <= innerHeight")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    touched = page.locator("#numbers :is(button, input)")
    assert touched.count() == 2 * 3 + 3
    for number in range(touched.count()):
        box = touched.nth(number).bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 44
    picture = page.locator("figure").bounding_box()
    drawn = page.locator("figure svg").bounding_box()
    assert picture == drawn


def test_touch_changes_numbers_and_stores(browser, site):
    options = {"viewport": {"width": 820, "height": 1180}, "has_touch": True}
    with browser.new_context(base_url=str(site.viewer.http.base_url), **options) as context:
        page = context.new_page()
        begin(page, site)
        before = numbers(page)[1]
        page.get_by_role("button", name="One person more").tap()
        page.get_by_role("button", name="One car less").tap()
        assert numbers(page) == ["0", str(int(before) + 1)]
        page.get_by_role("button", name="Store and go on").tap()
        stored = answers(site, site.first() + 1)[site.plan.samples[site.first()]]
        assert stored.counts == {"car": 0, "person": int(before) + 1}
        page.get_by_role("button", name="Back").tap()
        assert numbers(page) == ["0", str(int(before) + 1)]


def test_a_screen_reader_can_use_the_page(page, site):
    assert serious_problems(page, ADDRESS) == []
    show_frame(page)
    assert serious_problems(page, "/count") == []


def open_slices(page: Page) -> None:
    """Open the page on which people count the crossings of a line."""
    page.goto(f"/count/{DAY}?source={SOURCE}&line=stop")
    page.get_by_label("Your name").fill("ann")
    page.keyboard.press("Enter")
    show_frame(page)
    assert serious_problems(page, page.url) == []  # it loads the page again
    show_frame(page)


def test_a_slice_is_watched_and_its_crossings_counted_by_keys(browser, tmp_path):
    with (
        line_site(planned_settings(tmp_path)) as site,
        browser.new_context(base_url=str(site.viewer.http.base_url)) as context,
    ):
        page, failed = context.new_page(), []
        page.on("pageerror", lambda error: failed.append(str(error)))
        open_slices(page)
        clip, play = page.locator("#clip"), page.locator("#play")
        page.keyboard.press("Space")
        expect(play).to_have_text("Play")
        first, (shown, of) = site.plan.samples[0], map(int, re.findall(r"\d+", clip.inner_text()))
        assert of == (24 if first.endswith("T120000Z") else 26)
        for _ in range(shown - 1):
            page.keyboard.press("ArrowLeft")
        expect(clip).to_have_text(f"Frame 1 of {of}: {'count' if of == 24 else 'lead-in, do not count'}")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        expect(clip).to_have_text(f"Frame 3 of {of}: count")
        expect(page.locator("figure svg text")).to_have_text(["forward", "out"])
        page.keyboard.press("1")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#hint")).to_have_text("Watch the clip to its end, then store.")
        page.keyboard.press("Space")
        expect(clip).to_have_text(f"Frame {of} of {of}: count")
        page.keyboard.press("Enter")
        expect(page.locator("#progress")).to_have_text("1 of 10 counted")
        wait_until(lambda: read_answers(site.store, DAY, SOURCE, "stop"), limit_s=30, what="the answer")
        (stored,) = read_answers(site.store, DAY, SOURCE, "stop")
        assert (stored.frame_id, stored.by, stored.blind) == (first, "ann", True)
        assert stored.counts == {"stop: car forward": 2, "stop: car out": 0}
        page.goto(f"/count?day={DAY}")
        expect(page.get_by_role("row", name="stop: car out")).to_contain_text("not enough counted yet")
        page.get_by_role("link", name="gate line stop").click()
        expect(page.locator("#progress")).to_have_text("1 of 10 counted")
        assert failed == []
