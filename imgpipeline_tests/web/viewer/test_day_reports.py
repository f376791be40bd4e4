"""Stored reports are listed and shown, and cannot do what a page of the viewer can."""

from datetime import timedelta

import pytest
from playwright.sync_api import Browser, expect

from imgpipeline.contracts.keys import report_key
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.samples import DAY, frames, write_chain
from imgpipeline_tests.web.viewer.viewing import viewing

NEXT_DAY = DAY + timedelta(days=1)
HOSTILE = b"""<!doctype html><html lang="en"><title>Report</title><style>h1 { color: rgb(1, 2, 3) }</style>
<h1>A report</h1><script>document.title = "scripted"; fetch("/api/v1/days")</script>
<img src="x" onerror="document.title = 'scripted'"><form action="/alerts/1"><button>Send</button></form></html>"""


@pytest.mark.medium
def test_reports_are_listed_and_shown_without_scripts(browser: Browser, folder: Settings):
    store = open_store(folder)
    write_chain(store, frames(0, 1))
    with viewing(folder) as viewer:
        assert "daily_report" in viewer.get("/reports").text
        for day in (DAY, NEXT_DAY):
            store.put(report_key(day), HOSTILE)
        assert [one["day"] for one in viewer.json("/api/v1/reports")["reports"]] == [str(NEXT_DAY), str(DAY)]
        with browser.new_context(base_url=str(viewer.http.base_url)) as context:
            page, asked = context.new_page(), []
            page.on("request", lambda request: asked.append(request.url))
            page.goto("/reports")
            page.get_by_role("main").get_by_role("link").nth(1).click()
            page.wait_for_url(f"**/reports/{DAY}")
            expect(page.get_by_role("heading")).to_have_css("color", "rgb(1, 2, 3)")
            page.get_by_role("button").click()
            expect(page).to_have_title("Report")
            assert page.url.endswith(f"/reports/{DAY}")
            assert not any(url.endswith("/api/v1/days") for url in asked)


@pytest.mark.medium
def test_a_day_without_a_report_says_how_to_get_one(folder: Settings):
    with viewing(folder) as viewer:
        answer = viewer.get(f"/reports/{DAY}")
        assert (answer.status_code, f"imgpipeline report --day {DAY}" in answer.text) == (404, True)
