"""What a person has reviewed: by frames and whole days, each person for themselves, and never in a count."""

from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline.web.viewer.reviewed import PREFIX
from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.ledger.samples import NOON, append, frames, write_chain
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.filmed import NEXT_DAY, FilmedSite, filmed_site
from imgpipeline_tests.web.viewer.viewing import viewing

PATH = "/api/v1/reviewed"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FilmedSite]:
    with filmed_site(tmp_path) as made:
        yield made


def reviewed(site: FilmedSite, **headers: str) -> dict[str, int]:
    answer = site.viewer.http.get(PATH, headers=headers)
    assert answer.status_code == 200, answer.text
    return {row["day"]: row["reviewed"] for row in answer.json()["days"]}


@pytest.mark.medium
def test_frames_and_days_are_marked_and_unmarked(site: FilmedSite):
    http, ids = site.viewer.http, [one.frame_id for one in site.of()]
    day = str(DAY)
    counts = site.viewer.get("/api/v1/label-counts", day=DAY).content
    assert reviewed(site) == {day: 0, str(NEXT_DAY): 0}
    answer = http.post(PATH, json={"day": day, "frames": ids[:3]})
    assert (answer.status_code, answer.json()) == (
        200, {"by": "viewer without login", "day": day, "frames": 48, "reviewed": 3},
    )  # fmt: skip
    assert http.post(PATH, json={"day": day, "frames": ids[2:5]}).json()["reviewed"] == 5
    assert http.post(PATH, json={"day": day, "frames": ids[:1], "reviewed": False}).json()["reviewed"] == 4
    page = site.viewer.get("/review", day=DAY).text
    assert '<b id="reviewed-count">4</b> of 48 frames' in page
    assert page.count('class="card reviewed"') == 4
    assert http.post(PATH, json={"day": day}).json()["reviewed"] == 48
    assert reviewed(site) == {day: 48, str(NEXT_DAY): 0}
    refused = http.post(PATH, json={"day": day, "frames": ids[:1], "reviewed": False})
    assert (refused.status_code, "remove the mark of the day" in refused.text) == (400, True)
    assert http.post(PATH, json={"day": day, "reviewed": False}).json()["reviewed"] == 0
    assert site.viewer.get("/api/v1/label-counts", day=DAY).content == counts


@pytest.mark.medium
def test_forms_mark_frames_and_redirect_back(site: FilmedSite):
    http, one = site.viewer.http, site.of()[0]
    frame = f"/frames/{DAY}/{one.frame_id}?label=car"
    assert "not reviewed" in http.get(frame).text
    sent = http.post("/review/reviewed", data={"day": str(DAY), "frames": one.frame_id, "reviewed": "1", "back": frame})
    assert (sent.status_code, sent.headers["location"]) == (303, frame)
    assert "✓ reviewed" in http.get(frame).text
    back = f"/review?day={DAY}&label=car"
    assert f'name="back" value="{back}"' in unescape(http.get(back).text)
    assert http.post("/review/reviewed", data={"day": str(DAY), "back": back}).headers["location"] == back
    assert reviewed(site)[str(DAY)] == 48


@pytest.mark.medium
def test_unknown_frames_and_days_cannot_be_marked_and_a_form_redirects_only_to_pages_of_this_server(site: FilmedSite):
    http, day = site.viewer.http, str(DAY)
    for body in ({"day": "2020-01-01"}, {"day": day, "frames": ["0" * 32]}, {"day": day, "frames": ["' OR 1=1"]},
                 {"day": day, "who": "anna"}, {}):  # fmt: skip
        assert http.post(PATH, json=body).status_code in {400, 404}, body
        assert http.post("/review/reviewed", data=body).status_code in {400, 404}, body
    for back in ("//evil.example/", "https://evil.example/", "/review\r\nX: y", "/api/v1/days"):
        assert http.post("/review/reviewed", data={"day": day, "back": back}).status_code == 400, back
    assert [info.key for info in site.store.list_objects(PREFIX)] == []


@pytest.mark.medium
def test_each_person_has_separate_marks_and_needs_the_scope(tmp_path: Path):
    keys = KeyFile(tmp_path / "keys.json")
    both = (Scope.READ, Scope.ACKNOWLEDGE)
    anna, bert, carl = (
        {"Authorization": f"Bearer {keys.add((), NOON, scopes=scopes, name=name)}"}
        for name, scopes in (("anna", both), ("bert/../anna", both), ("carl", (Scope.READ,)))
    )
    with filmed_site(tmp_path, api_keys_file=tmp_path / "keys.json") as site:
        http, body = site.viewer.http, {"day": str(NEXT_DAY)}
        assert http.post(PATH, json=body).status_code == 401
        for path, sent in ((PATH, {"json": body}), ("/review/reviewed", {"data": body})):
            refused = http.post(path, headers=carl, **sent)  # type: ignore[arg-type]  # one keyword of the client
            assert (refused.status_code, "acknowledge" in refused.text) == (403, True)
            forged = http.post(path, headers={**anna, "Sec-Fetch-Site": "cross-site"}, **sent)  # type: ignore[arg-type]  # as above
            assert forged.status_code == 403
        assert http.post(PATH, json=body, headers=anna).json()["by"] == "anna"
        counts = [reviewed(site, **headers)[str(NEXT_DAY)] for headers in (anna, bert, carl)]
        assert counts == [12, 0, 0]
        assert "Mark whole day as reviewed" not in http.get("/review", headers=carl).text
        assert "reviewed by <bdi>bert/../anna</bdi>" in http.get("/calendar", headers=bert).text


@pytest.mark.medium
def test_a_frame_that_arrives_after_the_day_was_marked_is_not_reviewed(folder: Settings):
    store = open_store(folder)
    chain = write_chain(store, frames(0, 3))
    with viewing(folder) as viewer:
        assert viewer.http.post(PATH, json={"day": str(DAY)}).json()["reviewed"] == 3
        append(chain, frames(3, 5))
        wait_until(lambda: viewer.json("/api/v1/frames")["matching"] == 5, limit_s=120, what="the new frames")
        assert viewer.json(PATH)["days"] == [{"day": str(DAY), "frames": 5, "reviewed": 3}]
        assert "3 reviewed" in viewer.get("/calendar").text


@pytest.mark.medium
def test_the_calendar_shows_days_with_data_and_what_is_left(site: FilmedSite):
    http = site.viewer.http
    http.post(PATH, json={"day": str(DAY)})
    http.post(PATH, json={"day": str(NEXT_DAY), "frames": [site.of(NEXT_DAY)[0].frame_id]})
    page = http.get("/calendar?month=2026-01").text
    assert "<h1>January 2026</h1>" in page
    assert "<b>2</b> days with frames, <b>1</b> reviewed" in page
    assert f'<td class="reviewed"><a href="/review?day={DAY}"><b>9</b> <span>48 frames</span>' in page
    assert f'<td class="partly"><a href="/review?day={NEXT_DAY}"><b>10</b> <span>12 frames</span>' in page
    assert f'<a href="/review?day={NEXT_DAY}">First day left to review: {NEXT_DAY}</a>' in page
    assert "No frames in this month." in http.get("/calendar?month=2025-12").text
    assert 'href="/calendar?month=2026-01"' in http.get("/calendar?month=2025-12").text
    assert http.get("/calendar?month=2026-13").status_code == 400
    assert 'href="/calendar?month=2026-01"' in http.get(f"/review?day={DAY}").text
