"""Each alert has a page with all of its images; the address of the classic alert viewer leads there too."""

from html import unescape

import pytest

from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.ledger.samples import frames, write_chain
from imgpipeline_tests.web.viewer.conftest import ViewedStore
from imgpipeline_tests.web.viewer.viewing import viewing


def test_alerts_are_listed_the_latest_first(viewed: ViewedStore):
    page = viewed.viewer.get("/alerts").text
    assert page.index('href="/alerts/2"') < page.index('href="/alerts/1"')
    assert "the &lt;b&gt;image&lt;/b&gt; differs" in page
    listed = viewed.viewer.json("/api/v1/alerts")
    assert (listed["total"], [one["number"] for one in listed["alerts"]]) == (2, [2, 1])


def test_older_alerts_are_on_the_next_page(viewed: ViewedStore):
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
def test_row_3_10_an_alert_number_shows_its_images_with_their_captions(viewed: ViewedStore, address: str):
    page = viewed.viewer.get(address).text
    captions = ("Previous Image", "Image", "Difference Image")
    places = [page.index(f"<figcaption>{caption}</figcaption>") for caption in captions]
    assert places == sorted(places)
    store = open_store(viewed.settings)
    stored = [viewed.site.frames[n].source_image_path for n in (1, 3)] + ["event_images/d.jpg"]
    sent = [viewed.viewer.get(f"/alerts/1/images/{position}").content for position in range(3)]
    assert sent == [store.get(path) for path in stored]


@pytest.mark.parametrize(
    ("address", "status", "said"),
    [
        ("/?alert_num=seven", 400, "'seven' is not an alert number."),
        ("/?alert_num=", 400, "'' is not an alert number."),
        ("/alerts?number=../1", 400, "'../1' is not an alert number."),
        ("/?alert_num=99", 404, "There is no alert 99."),
        ("/alerts/0", 400, "number: "),
        ("/alerts/1/images/3", 404, "Alert 1 has 3 images."),
        ("/alerts/1/images/..%2F..%2Frules.toml", 404, "Not Found"),
        ("/pipeline/metadata/frames", 404, "Not Found"),
    ],
)
def test_row_3_10_a_wrong_number_is_explained(viewed: ViewedStore, address: str, status: int, said: str):
    answer = viewed.viewer.get(address)
    assert (answer.status_code, said in unescape(answer.text)) == (status, True)


@pytest.mark.medium
def test_without_alerts_the_page_says_what_raises_them(folder: Settings):
    write_chain(open_store(folder), frames(0, 1))
    with viewing(folder) as viewer:
        assert "imgpipeline alerts watch" in viewer.get("/alerts").text
