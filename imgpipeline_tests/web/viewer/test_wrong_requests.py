"""A wrong request has the right status, and says what is wrong and what to do next: as a page, and in the API."""

from html import unescape

import pytest

from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.web.viewer.conftest import ViewedStore

UNKNOWN = "0" * 32
PLACE = f"/places/frames?day={DAY}&label=car"
BOTH = (
    ("/frames?hour=24", 400, "hour: Input should be less than or equal to 23."),
    ("/frames?day=2026-13-40", 400, "day is '2026-13-40'."),
    ("/frames?day=2026-03-01", 404, "The ledger has nothing of 2026-03-01."),
    ("/frames?min_confidence=nan", 400, "min_confidence: "),
    ("/frames?colour=red", 400, "colour: Extra inputs are not permitted."),
    ("/frames?source=a%00b", 400, "source: "),
    ("/frames?after=bm9wZQ", 400, "'bm9wZQ' is not a cursor of this server."),
    ("/frames?after=WyIyMDI2IiwiMSIsIjEiXQ", 400, "is not a cursor of this server."),
    ("/frames?from=2026-01-10&to=2026-01-09", 400, "from is later than to"),
    ("/frames?from=2020-01-01&to=2020-01-02", 404, "take one of its days"),
    ("/frames?time_from=25:00", 400, "time_from: "),
    ("/frames?time_from=07:00&time_to=07:00", 400, "are equal"),
    ("/frames?zone=attic", 404, "The rules have no zone 'attic'"),
    ("/frames?timezone=Europe/Berln", 400, "Europe/Berlin"),
    (f"/frames/{DAY}/abc", 400, "frame_id: "),
    (f"/frames/{DAY}/{UNKNOWN}", 404, f"2026-01-09 has no frame {UNKNOWN}."),
    (f"/frames/yesterday/{UNKNOWN}", 400, "day is 'yesterday'."),
    ("/explain?label=car", 400, "day: Field required."),
    (f"/explain?day={DAY}&label=zebra", 404, "There is no zebra on 2026-01-09."),
    ("/events?day=2026-13-01", 400, "day is '2026-13-01'."),
    *((f"/{name}?day=2020-01-01", 404, "2020-01-01") for name in ("events", "dead-letters", "accounts", "coverage")),
    ("/events?limit=0", 400, "limit: "),
    ("/events?after=-1", 400, "after: "),
    ("/events?source=%00", 400, "source: "),
    ("/objects?colour=red", 400, "colour: "),
    ("/dead-letters?code=odd", 400, "code: "),
    ("/dead-letters/frames/0/99", 404, "frames/0/99"),
    ("/dead-letters/a%20b/0/1", 400, "topic: "),
    ("/coverage?hour=3", 400, "hour: "),
    (f"{PLACE}&zone=lawn", 404, "The rules no longer have the zone 'lawn'."),
    (PLACE, 400, "either zone or line is required"),
    (f"{PLACE}&zone=road&line=stop", 400, "either zone or line is required"),
    (f"{PLACE}&line=stop", 400, "a line needs a direction"),
    (f"{PLACE}&zone=road&direction=out", 400, "a zone has none"),
    (f"{PLACE}&zone=road&hour=24", 400, "hour: "),
    ("/alerts/0", 400, "number: "),
    ("/alerts/99", 404, "There is no alert 99."),
    ("/nothing", 404, "Not Found."),
)
"""Of a page and of its route in the API, where only the frames have two names: `/review` and `/frames`."""
ONE = (
    ("/api/v1/frames?limit=100000", 400, "limit: "),
    ("/api/v1/label-counts?by=frame_id", 400, "by: "),
    ("/api/v1/search?q=", 400, "q is empty"),
    ("/api/v1/search?q=after:soon", 400, "after"),
    (f"/api/v1/search?q={'a' * 501}", 400, "500"),
    (f"/api/v1/frames/{DAY}/..%2F..%2Fmetadata", 404, "Not Found."),
    ("/?colour=red", 400, "colour: Extra inputs are not permitted."),
    ("/?alert_num=seven", 400, "'seven' is not an alert number."),
    ("/alerts?number=../1", 400, "'../1' is not an alert number."),
    ("/alerts/1/images/3", 404, "Alert 1 has 3 images."),
    ("/alerts/1/images/..%2F..%2Frules.toml", 404, "Not Found"),
    ("/pipeline/metadata/frames", 404, "Not Found"),
    ("/static/..%2fapp.py", 404, "Not Found"),
    ("/static/%2e%2e/app.py", 404, "Not Found"),
    ("/static//etc/passwd", 404, "Not Found"),
)


@pytest.mark.parametrize(("path", "status", "said"), BOTH)
def test_a_page_and_its_route_in_the_api_explain_a_wrong_request(viewed, path, status, said):
    check(viewed, path.replace("/frames?", "/review?") if path.startswith("/frames?") else path, status, said)
    check(viewed, f"/api/v1{path}", status, said)


@pytest.mark.parametrize(("path", "status", "said"), ONE)
def test_a_wrong_request_is_explained(viewed, path, status, said):
    check(viewed, path, status, said)


def check(viewed: ViewedStore, path: str, status: int, said: str) -> None:
    """Check the status of an answer and its message."""
    answer = viewed.viewer.get(path)
    assert answer.status_code == status, path
    if path.startswith("/api/"):
        assert set(answer.json()) == {"error", "next"}
        assert said in f"{answer.json()['error']} {answer.json()['next']}"
    else:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert said in unescape(answer.text)
        assert "<b>Next:</b>" in answer.text
