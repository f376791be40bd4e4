"""The overview of a day, its objects and sources lead from each number to its frames; reports are isolated."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape

import pyarrow as pa
import pytest
from playwright.sync_api import expect

from imgpipeline.contracts.keys import report_key
from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.objectstore import open_store
from imgpipeline.reports.build import current_page
from imgpipeline.reports.figures import read_headline
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_tracks
from imgpipeline_tests.lake.audits import build_all, log_range, run_audit
from imgpipeline_tests.lake.query.site import NEXT_DAY
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, frames, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.tracking.films import Car, film
from imgpipeline_tests.web.viewer.conftest import HOSTILE_SOURCE
from imgpipeline_tests.web.viewer.filmed import AT, MINUTE
from imgpipeline_tests.web.viewer.viewing import Viewer, links, viewing

pytestmark = pytest.mark.medium
HOSTILE = b"""<!doctype html><html lang="en"><title>Report</title><style>h1 { color: rgb(1, 2, 3) }</style>
<h1>A report</h1><script>document.title = "scripted"; fetch("/api/v1/days")</script>
<img src="x" onerror="document.title = 'scripted'"><form action="/alerts/1"><button>Send</button></form></html>"""


def test_every_number_of_the_overview_leads_to_frames_with_the_same_sum(viewed):
    page = viewed.viewer.get("/", day=DAY).text
    numbers = re.findall(r'<td class="right[^"]*"><a href="([^"]*)"[^>]*>([\d,]+)</a>', page)
    assert len(numbers) > 10
    for address, number in numbers:
        linked = viewed.viewer.get(unescape(address)).text
        assert f"equal to the stored count, {number}</span>" in linked


def test_the_overview_shows_the_figures_of_its_day(viewed):
    page = viewed.viewer.get("/", day=DAY).text
    assert "Friday, 9 January 2026" in page
    assert f"<b>{len(viewed.frames)}</b> frames" in page
    assert re.search(r"<b>1</b> dead letter", page)
    assert "unique objects: not built yet" in page
    assert "not audited yet" in page
    heading = page.split("</section>")[0]
    assert links(heading, "/?day=") == [f"/?day={NEXT_DAY}"]


def test_a_day_without_unique_objects_differs_from_one_whose_tracks_are_not_built(folder):
    store = open_store(folder)
    write_chain(store, frames(0, 3))
    rebuild_day(store, DAY, now=NOON)
    with viewing(folder) as viewer:
        assert "unique objects: not built yet" in viewer.get("/", day=DAY).text
    build_tracks(store, DAY, settings=folder, now=NOON)
    with viewing(folder) as viewer:
        assert re.search(r'href="/objects\?day=2026-01-09"><b>0</b> unique objects', viewer.get("/", day=DAY).text)


def test_the_overview_names_the_latest_alerts_and_the_days_that_wait_for_a_build(viewed):
    page = viewed.viewer.get("/", day=DAY).text
    assert links(page, "/alerts/") == ["/alerts/2", "/alerts/1"]
    assert "the &lt;b&gt;image&lt;/b&gt; differs" in page
    waiting = page.split("<dt>Days waiting for a build</dt>")[1].split("</dl>")[0]
    assert links(waiting, "/?day=") == [f"/?day={NEXT_DAY}", f"/?day={DAY}"]
    assert "2; newer frames are already counted here:" in waiting
    assert ": day_tables: missing" in waiting
    assert ": day_tables: the ledger has newer segments" in waiting
    assert "cannot be read" not in waiting


def test_the_days_that_wait_for_a_build_are_read_every_30_seconds_however_often_frames_arrive(folder):
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


@pytest.mark.slow
def test_the_audit_on_the_overview_follows_the_same_rule_as_the_report(folder):
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


def test_the_latest_day_is_shown_without_a_day(viewed):
    assert "Saturday, 10 January 2026" in viewed.viewer.get("/").text
    assert f'<option value="{NEXT_DAY}" selected>' in viewed.viewer.get("/review").text


def test_reports_are_listed_and_shown_without_scripts(browser, folder):
    store = open_store(folder)
    write_chain(store, frames(0, 1))
    with viewing(folder) as viewer:
        assert "daily_report" in viewer.get("/reports").text
        missing = viewer.get(f"/reports/{DAY}")
        assert (missing.status_code, f"imgpipeline report --day {DAY}" in missing.text) == (404, True)
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


BORDER = AT + 10 * MINUTE
"""Of two slices, which are followed on their own."""
START, END = BORDER - 2 * MINUTE, BORDER + 2 * MINUTE


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """A car that is hidden for a while and so has two tracks, a person, and a dog that is seen for a moment.

    Today's settings count more objects than those of the build did.
    """
    url = (tmp_path_factory.mktemp("objects") / "store").as_uri()
    settings = Settings(_env_file=None, store_url=url, unique_min_s=10)
    hidden = (BORDER - timedelta(seconds=2), BORDER + timedelta(seconds=2))
    cars = [Car(START, END, hidden=hidden), Car(START, START + MINUTE, "person", y=300),
            Car(START, START + timedelta(seconds=9), "dog", y=400)]  # fmt: skip
    store = open_store(settings)
    write_chain(store, film(START, END, cars, rate=2))
    rebuild_day(store, DAY, now=NOON)
    build_tracks(store, DAY, settings=settings, now=NOON)
    with viewing(settings.model_copy(update={"unique_min_s": 1.0})) as made:
        yield made


def test_an_object_is_listed_once_however_many_tracks_it_has(objects):
    found = objects.json("/api/v1/objects", day=DAY)["objects"]
    assert [(one["label"], one["stay_s"]) for one in found] == [("car", 239.5), ("person", 59.5)]
    assert "seen for at least 10 s" in objects.get("/objects", day=DAY).text
    car, person = found
    assert (person["tracks"], person["points"]) == (1, 120)
    assert (car["tracks"], car["points"]) == (2, 480 - 8)


def test_the_overview_has_the_same_count_and_links_here(objects):
    page = objects.get("/", day=DAY).text
    numbers = re.findall(r'<a [^>]*href="(/objects[^"]*)">(?:<b>)?([\d,]+)', page)
    assert len(numbers) == 3
    for address, number in numbers:
        assert f"<b>{number}</b> object" in objects.get(unescape(address)).text


def test_an_object_leads_to_all_of_its_frames(objects):
    for one in objects.json("/api/v1/objects", day=DAY)["objects"]:
        assert objects.json("/api/v1/frames", day=DAY, object=one["object_id"])["detections"] == one["points"]
        assert one["best_frame_id"] in objects.get("/objects", day=DAY).text


def test_objects_are_filtered_paged_and_also_a_table(objects):
    assert objects.json("/api/v1/objects", day=DAY, label="person")["matching"] == 1
    assert objects.json("/api/v1/objects", day=DAY, source="nowhere")["objects"] == []
    first = objects.json("/api/v1/objects", day=DAY, limit=1)
    second = objects.json("/api/v1/objects", day=DAY, limit=1, after=first["next"])
    assert [one["label"] for one in (*first["objects"], *second["objects"])] == ["car", "person"]
    table = pa.ipc.open_stream(objects.get("/api/v1/objects", day=DAY, format="arrow").content).read_all()
    assert table.column("points").to_pylist() == [472, 120]
    assert "No object matches." in objects.get("/objects", day=DAY, label="zebra").text


SOURCES = ("gate", "yard", HOSTILE_SOURCE)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Viewer, list[Frame]]]:
    """A viewer over twelve frames of three sources; the latest is ten minutes old."""
    settings = Settings(_env_file=None, store_url=(tmp_path_factory.mktemp("live") / "store").as_uri())
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=26)
    steps = [timedelta(hours=2 * n) if n < 11 else timedelta(hours=25, minutes=50) for n in range(12)]
    found = [
        seen(n, ["car"] * (n % 3) + ["dog"], source=SOURCES[n % 3], timestamp=start + step)
        for n, step in enumerate(steps)
    ]
    write_chain(open_store(settings), [*found, dead_letter(12, start.date())])
    with viewing(settings) as viewer:
        yield viewer, found


def test_each_source_has_its_newest_frame_with_all_boxes(shown):
    viewer, frames = shown
    newest = {one.source: one for one in sorted(frames, key=lambda one: one.timestamp)}
    found = {one["source"]: one for one in viewer.json("/api/v1/live")["sources"] if one["frame"]}
    assert {source: one["frame"]["frame_id"] for source, one in found.items()} == {
        source: one.frame_id for source, one in newest.items()
    }
    for source, one in found.items():
        assert [box["label"] for box in one["detections"]] == [box.label for box in newest[source].detections]


def test_the_live_page_shows_the_age_of_each_image_and_links_to_its_frame(shown):
    viewer, frames = shown
    page = viewer.get("/live").text
    for one in frames[-3:]:
        assert f'href="/frames/{one.day}/{one.frame_id}?source=' in page
        assert f'src="/api/v1/frames/{one.day}/{one.frame_id}/thumbnail"' in page
    assert "10 min" in page
    assert page.count("<rect x=") == sum(len(one.detections) for one in frames[-3:])
    assert HOSTILE_SOURCE not in page
    assert viewer.get("/live", day="2026-01-09").status_code == 400


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shows a source that was offline, and one without notices. For reading only."""
    settings = Settings(_env_file=None, store_url=(tmp_path_factory.mktemp("coverage") / "store").as_uri())
    session = [
        said(0, NoticeKind.STARTED), shot(1), account(2, 1, observed_s=42), shot(3, source=HOSTILE_SOURCE),
        said(4, NoticeKind.OFFLINE, minute=1, reason="<b>no route</b>"), said(5, NoticeKind.ONLINE, minute=61),
        account(6, 0, minute=61, observed_s=30), said(7, NoticeKind.ENDED, minute=62),
    ]  # fmt: skip
    write_chain(open_store(settings), session)
    with viewing(settings) as running:
        yield running


def test_each_hour_leads_to_its_frames_and_they_add_up(viewer):
    (source,) = viewer.json("/api/v1/coverage", day=DAY, source="cam-1")["sources"]
    assert [(one["hour"], one["observed_s"]) for one in source["hours"]] == [(12, 42.0), (13, 30.0)]
    assert source["observed_s"] == 72.0
    assert all(f'href="/coverage?day={DAY}"' in viewer.get(path, day=DAY).text for path in ("/", "/accounts"))
    assert "No source matches." in viewer.get("/coverage", source="nowhere").text
    page = viewer.get("/coverage", day=DAY, source="cam-1").text
    links = {unescape(link) for link in re.findall(r'href="(/review[^"]*hour=[^"]*)"', page)}
    assert links == {f"/review?day={DAY}&source=cam-1&hour={hour}" for hour in (12, 13)}
    for one in source["hours"]:
        frames = viewer.json("/api/v1/frames", day=DAY, source="cam-1", hour=one["hour"])
        assert frames["matching"] == one["frames"]


def test_outages_are_listed_with_their_reason_as_text(viewer):
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
