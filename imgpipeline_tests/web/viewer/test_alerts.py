"""Each alert has a page with all of its images; the address of the classic alert viewer leads there too."""

from html import unescape

import pytest
from pydantic import SecretStr

from imgpipeline.contracts.keys import attempts_prefix
from imgpipeline.contracts.times import format_time
from imgpipeline.events.alerts.chain import AlertChain
from imgpipeline.events.reading import read_events
from imgpipeline.objectstore import open_store
from imgpipeline.objectstore.numbered import append_entry
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.samples import DAY, NOON, frames, write_chain
from imgpipeline_tests.web.viewer.conftest import raise_alert
from imgpipeline_tests.web.viewer.filmed import filmed_site
from imgpipeline_tests.web.viewer.viewing import links, viewing

pytestmark = pytest.mark.medium


def test_alerts_are_listed_the_latest_first(viewed):
    page = viewed.viewer.get("/alerts").text
    assert page.index('href="/alerts/2"') < page.index('href="/alerts/1"')
    assert "the &lt;b&gt;image&lt;/b&gt; differs" in page
    listed = viewed.viewer.json("/api/v1/alerts")
    assert (listed["total"], [one["number"] for one in listed["alerts"]]) == (2, [2, 1])


def test_older_alerts_are_on_the_next_page(viewed):
    page = viewed.viewer.get("/alerts", limit=1).text
    assert 'href="/alerts/1"' not in page
    older = unescape(page.split('rel="next" href="')[1].split('"')[0])
    assert 'href="/alerts/1"' in viewed.viewer.get(older).text
    first = viewed.viewer.json("/api/v1/alerts", limit=1)
    last = viewed.viewer.json("/api/v1/alerts", limit=1, before=first["next"])
    assert [one["number"] for one in (*first["alerts"], *last["alerts"])] == [2, 1]
    assert last["next"] is None
    assert "There are no older alerts" in viewed.viewer.get("/alerts", before=1).text


@pytest.mark.parametrize("address", ["/alerts/1", "/alerts?number=1", "/?alert_num=1"])
def test_an_alert_number_shows_its_images_with_their_captions(viewed, address):
    page = viewed.viewer.get(address).text
    captions = ("Previous Image", "Image", "Difference Image")
    places = [page.index(f"<figcaption>{caption}</figcaption>") for caption in captions]
    assert places == sorted(places)
    store = open_store(viewed.settings)
    stored = [viewed.site.frames[n].source_image_path for n in (1, 3)] + ["event_images/d.jpg"]
    sent = [viewed.viewer.get(f"/alerts/1/images/{position}").content for position in range(3)]
    assert sent == [store.get(path) for path in stored]


def test_an_alert_shows_its_frame_with_boxes_and_places_and_leads_to_frame_event_and_rule(tmp_path):
    with filmed_site(tmp_path) as site:
        [event] = read_events(site.store, Settings(_env_file=None), DAY)
        AlertChain(site.store).append(event, difference_image=None, now=NOON)
        page = site.viewer.get("/alerts/1").text
        figure = page.split("<figure")[1].split("</figure>")[0]
        assert figure.count("<rect x=") == 2
        assert all(f">{label}</text>" in figure for label in ("car 0.90", "person 0.70", "lower half"))
        frame, of_rule = (links(page, start)[0] for start in ("/frames/", "/events?"))
        [of_event] = [link for link in links(page, "/review?") if "event=" in link]
        assert frame.startswith(f"/frames/{DAY}/{event.frame_ids[0]}")
        assert frame in links(figure, "/")
        assert "<b>1</b> frame with" in site.viewer.get(of_event).text
        assert "<b>1</b> event." in site.viewer.get(of_rule).text
        assert site.viewer.get(frame).status_code == 200


def test_an_alert_that_nobody_is_told_of_says_so(folder):
    store = open_store(folder)
    write_chain(store, frames(0, 1))
    with viewing(folder) as viewer:
        assert "imgpipeline alerts watch" in viewer.get("/alerts").text
        raise_alert(store)
        for path in ("/alerts", "/alerts/1"):
            assert "no target configured" in viewer.get(path).text
    with viewing(folder.model_copy(update={"alert_targets": SecretStr("json://127.0.0.1:1")})) as viewer:
        for path in ("/alerts", "/alerts/1"):
            assert "no target configured" not in viewer.get(path).text
    attempt = {"at": format_time(NOON), "accepted": [], "failed": ["json-1a2b"], "alerts": 1}
    append_entry(store, attempts_prefix(1), attempt)
    with viewing(folder) as viewer:  # has no targets itself
        assert "<dd>no, 1 attempt</dd>" in viewer.get("/alerts/1").text
