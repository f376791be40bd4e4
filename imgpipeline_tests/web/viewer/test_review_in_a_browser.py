"""The review page in a real browser: each filter by its form, in the address, and out again."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, expect

from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.web.viewer.filmed import NEXT_DAY, FilmedSite, filmed_site

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilmedSite]:
    with filmed_site(tmp_path_factory.mktemp("review")) as made:
        yield made


@pytest.fixture(scope="module")
def page(browser: Browser, site: FilmedSite) -> Iterator[Page]:
    with browser.new_context(base_url=str(site.viewer.http.base_url)) as context:
        yield context.new_page()


@pytest.mark.slow
def test_a_choice_or_an_entry_filters_at_once_and_is_in_the_address(page):
    for name, value, query in (("label", "person", "label=person"), ("zone", "lower half", "zone=lower+half")):
        page.goto(f"/review?day={DAY}")
        page.get_by_text("More filters").click()
        page.locator(f"select[name={name}]").select_option(value)
        page.wait_for_url(f"**/review?day={DAY}&{query}")
        expect(page.get_by_role("status")).to_contain_text("12 frames")
        expect(page.locator(f"select[name={name}]")).to_have_value(value)
        page.get_by_role("link", name="clear").click()
        page.wait_for_url(f"**/review?day={DAY}")
    page.get_by_label("Min. confidence", exact=True).fill("0.8")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review?day={DAY}&min_confidence=0.8")
    expect(page.get_by_role("status")).to_contain_text("48 frames")


def test_several_days_replace_one_day_and_the_other_way_round(page):
    page.goto(f"/review?day={DAY}")
    page.get_by_text("More filters").click()
    page.get_by_label("First day").fill(str(DAY))
    page.get_by_label("First day").press("Enter")
    page.wait_for_url(f"**/review?from={DAY}")
    expect(page.get_by_role("status")).to_contain_text("60 frames")
    page.locator("select[name=day]").select_option(str(NEXT_DAY))
    page.wait_for_url(f"**/review?day={NEXT_DAY}")
    expect(page.get_by_role("status")).to_contain_text("12 frames")


def test_keys_mark_frames_as_reviewed_and_remove_marks(page, site):
    page.goto(f"/review?day={NEXT_DAY}")
    cards = page.locator(".card")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("r")
    expect(page.locator("#reviewed-count")).to_have_text("1")
    expect(cards.nth(0).get_by_text("✓ reviewed")).to_be_visible()
    expect(cards.nth(1).get_by_text("✓ reviewed")).to_be_hidden()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/frames/{NEXT_DAY}/*")
    expect(page.get_by_text("✓ reviewed")).to_be_visible()
    page.keyboard.press("r")
    expect(page.get_by_text("not reviewed")).to_be_visible()
    page.keyboard.press("u")
    page.wait_for_url(f"**/review?day={NEXT_DAY}")
    expect(page.locator("#reviewed-count")).to_have_text("0")
    page.get_by_role("button", name="Mark whole day as reviewed").click()
    expect(page.locator("#reviewed-count")).to_have_text("12")
    page.get_by_role("button", name="Remove all marks").click()
    expect(page.locator("#reviewed-count")).to_have_text("0")


def test_play_shows_newer_frames_until_a_key_or_the_last_frame(browser, site):
    frames = [f"**/frames/{NEXT_DAY}/{one.frame_id}?source=yard" for one in reversed(site.of(NEXT_DAY))]
    with browser.new_context(base_url=str(site.viewer.http.base_url)) as context:
        page = context.new_page()
        page.clock.install()
        page.clock.pause_at(datetime(2100, 1, 1, tzinfo=UTC))  # timers run only when the test says so
        page.goto(f"/review?day={NEXT_DAY}&source=yard")
        expect(page.locator(".card")).to_have_count(12)
        page.keyboard.press("Space")
        for frame in frames[:2]:
            page.wait_for_url(f"{frame}#play")
            expect(page.get_by_role("button", name="Stop")).to_be_visible()
            page.clock.run_for(1_000)
        page.wait_for_url(f"{frames[2]}#play")
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="Play")).to_be_visible()
        page.clock.run_for(10_000)
        page.wait_for_url(frames[2])
        page.goto(frames[-2].removeprefix("**"))
        page.get_by_role("button", name="Play").click()
        page.clock.run_for(1_000)
        page.wait_for_url(frames[-1])
        expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_the_calendar_leads_to_days_and_months(page, site):
    page.goto(f"/review?day={DAY}")
    page.get_by_role("link", name="Calendar").click()
    page.wait_for_url("**/calendar?month=2026-01")
    page.get_by_role("link", name="10 12 frames not reviewed").click()
    page.wait_for_url(f"**/review?day={NEXT_DAY}")
    expect(page.get_by_role("status")).to_contain_text("12 frames")
    page.goto("/calendar?month=2025-11")
    page.get_by_role("link", name="January 2026").click()
    page.wait_for_url("**/calendar?month=2026-01")


def test_the_timeline_and_a_moment_lead_to_frames(page, site):
    page.goto(f"/review?from={DAY}")
    page.locator(".timeline a[tabindex]").nth(1).click(position={"x": 2, "y": 20})
    page.wait_for_url(f"**/review?day={DAY}&time_from=12%3A00&time_to=13%3A00")
    expect(page.get_by_role("status")).to_contain_text("48 frames with 60 detections")
    page.goto(f"/review?day={DAY}")
    page.get_by_label("Jump to").fill("12:01:03")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/review?day={DAY}&at=12%3A01%3A03")
    expect(page.locator(".card time").first).to_have_text("12:01:00")
    expect(page.get_by_role("link", name="← newer")).to_be_visible()
