"""The overview of a day leads from every number to its frames, and stored reports are isolated from the viewer."""

import re
from datetime import timedelta
from html import unescape

import pytest
from playwright.sync_api import Browser, expect

from imgpipeline.contracts.keys import report_key
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.reports.build import current_page
from imgpipeline.reports.figures import read_headline
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.lake.audits import build_all, log_range, run_audit
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY
from imgpipeline_tests.ledger.samples import NOON, append, frames, write_chain
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.conftest import ViewedStore
from imgpipeline_tests.web.viewer.viewing import Viewer, links, viewing

HOSTILE = b"""<!doctype html><html lang="en"><title>Report</title><style>h1 { color: rgb(1, 2, 3) }</style>
<h1>A report</h1><script>document.title = "scripted"; fetch("/api/v1/days")</script>
<img src="x" onerror="document.title = 'scripted'"><form action="/alerts/1"><button>Send</button></form></html>"""


@pytest.mark.medium
def test_every_number_of_the_overview_leads_to_frames_with_the_same_sum(viewed: ViewedStore):
    page = viewed.viewer.get("/", day=DAY).text
    numbers = re.findall(r'<td class="right[^"]*"><a href="([^"]*)"[^>]*>([\d,]+)</a>', page)
    assert len(numbers) > 10
    for address, number in numbers:
        linked = viewed.viewer.get(unescape(address)).text
        assert f"equal to the stored count, {number}</span>" in linked


def test_the_overview_shows_the_figures_of_its_day(viewed: ViewedStore):
    page = viewed.viewer.get("/", day=DAY).text
    assert "Friday, 9 January 2026" in page
    assert f"<b>{len(viewed.frames)}</b> frames" in page
    assert re.search(r"<b>1</b> dead letter", page)
    assert "unique objects: not built yet" in page
    assert "not audited yet" in page
    heading = page.split("</section>")[0]
    assert links(heading, "/?day=") == [f"/?day={NEXT_DAY}"]


@pytest.mark.medium
def test_a_day_without_unique_objects_differs_from_one_whose_tracks_are_not_built(folder: Settings):
    store = open_store(folder)
    write_chain(store, frames(0, 3))
    rebuild_day(store, DAY, now=NOON)
    with viewing(folder) as viewer:
        assert "unique objects: not built yet" in viewer.get("/", day=DAY).text
    build_tracks(store, DAY, settings=folder, now=NOON)
    with viewing(folder) as viewer:
        assert re.search(r'href="/objects\?day=2026-01-09"><b>0</b> unique objects', viewer.get("/", day=DAY).text)


def test_the_overview_names_the_latest_alerts_and_the_days_that_wait_for_a_build(viewed: ViewedStore):
    page = viewed.viewer.get("/", day=DAY).text
    assert links(page, "/alerts/") == ["/alerts/2", "/alerts/1"]
    assert "the &lt;b&gt;image&lt;/b&gt; differs" in page
    waiting = page.split("<dt>Days waiting for a build</dt>")[1].split("</dl>")[0]
    assert links(waiting, "/?day=") == [f"/?day={NEXT_DAY}", f"/?day={DAY}"]
    assert "2; newer frames are already counted here:" in waiting
    assert ": day_tables: missing" in waiting
    assert ": day_tables: the ledger has newer segments" in waiting
    assert "cannot be read" not in waiting


@pytest.mark.medium
def test_the_days_that_wait_for_a_build_are_read_every_30_seconds_however_often_frames_arrive(folder: Settings):
    chain, now = write_chain(open_store(folder), frames(0, 3)), NOON
    with viewing(folder, clock=lambda: now) as viewer:
        assert waiting_days(viewer) == [f"/?day={DAY}"]
        append(chain, frames(3, 6, NEXT_DAY))
        wait_until(lambda: len(viewer.json("/api/v1/days")["days"]) == 2, limit_s=60, what="the new session")
        assert waiting_days(viewer) == [f"/?day={DAY}"]
        now += timedelta(seconds=30)
        assert waiting_days(viewer) == [f"/?day={NEXT_DAY}", f"/?day={DAY}"]


def waiting_days(viewer: Viewer) -> list[str]:
    """Return the links to the days that wait for a build, on the overview."""
    page = viewer.get("/", day=DAY).text
    return links(page.split("<dt>Days waiting for a build</dt>")[1].split("</dl>")[0], "/?day=")


@pytest.mark.medium
def test_the_audit_on_the_overview_follows_the_same_rule_as_the_report(folder: Settings):
    store = open_store(folder)
    made = build_all(store)
    assert "not audited yet" in audit_on_overview(folder)
    assert report_verdict(folder) == "not audited"
    assert run_audit(store, log_range(12)).ok
    assert '<span class="state online">correct</span>' in audit_on_overview(folder)
    assert report_verdict(folder) == "ok"
    append(made, frames(12, 15))
    assert '<span class="state silent">correct, but newer frames arrived</span>' in audit_on_overview(folder)
    assert report_verdict(folder) == "behind"
    rebuild_day(store, DAY, now=NOON)
    assert '<span class="state silent">out of date' in audit_on_overview(folder)
    assert report_verdict(folder) == "outdated"


def audit_on_overview(settings: Settings) -> str:
    """Return the audit of the day on the overview."""
    with viewing(settings) as viewer:
        page = viewer.get("/", day=DAY).text
    return page.split("<dt>Audit of this day</dt>")[1].split("</dd>")[0]


def report_verdict(settings: Settings) -> str:
    """Return the audit of the day in an up-to-date report."""
    headline = read_headline(current_page(open_store(settings), settings, DAY, now=NOON))
    return headline.verdict if headline else ""


def test_the_latest_day_is_shown_without_a_day(viewed: ViewedStore):
    assert "Saturday, 10 January 2026" in viewed.viewer.get("/").text
    assert f'<option value="{NEXT_DAY}" selected>' in viewed.viewer.get("/review").text


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
def test_the_error_for_a_day_without_a_report_names_the_command(folder: Settings):
    with viewing(folder) as viewer:
        answer = viewer.get(f"/reports/{DAY}")
        assert (answer.status_code, f"imgpipeline report --day {DAY}" in answer.text) == (404, True)
