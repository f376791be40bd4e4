"""Events, dead letters and accounts of a day, as pages and in the API."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.text import plain
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table
from imgpipeline_tests.events.samples import rules
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.web.viewer.conftest import HOSTILE_SOURCE, ViewedStore
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

CROWD = '[[rule]]\nname = "crowd"\nkind = "count"\nabove = 1\n'
PATHS = ("/events", "/dead-letters", "/accounts")


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shows a day with two events, two dead letters and a closed session. For reading only."""
    settings = Settings(_env_file=None, store_url=(tmp_path_factory.mktemp("lists") / "store").as_uri())  # type: ignore[call-arg]  # pydantic-settings' own argument
    store = open_store(settings)
    cars = [seen(n, ["car"] * (n % 4), timestamp=NOON + timedelta(seconds=n)) for n in range(8)]
    letters = [dead_letter(8), replace(dead_letter(9), source=HOSTILE_SOURCE)]
    session = [said(10, NoticeKind.STARTED), shot(11), account(12, 1, dropped={"queue": 3}), said(13, NoticeKind.ENDED)]
    write_chain(store, [*cars, *letters, *session])
    rebuild_day(store, DAY, now=NOON)
    build_table(store, DAY, EVENTS, rules=rules(CROWD), settings=settings, now=NOON + timedelta(hours=3))
    with viewing(settings) as running:
        yield running


@pytest.mark.medium
def test_events_lead_to_their_frames(viewer: Viewer):
    found = viewer.json("/api/v1/events", day=DAY, rule="crowd")
    assert (found["day"], found["matching"], found["next"]) == (str(DAY), 2, None)
    assert [event["rule"] for event in found["events"]] == ["crowd"] * 2
    page = viewer.get("/events", day=DAY).text
    for event in found["events"]:
        assert event["reason"] in page
        for frame_id in event["frame_ids"]:
            assert f'href="/frames/{DAY}/{frame_id}"' in page
            assert viewer.get(f"/frames/{DAY}/{frame_id}").status_code == 200
    assert viewer.json("/api/v1/events", day=DAY, rule="other")["matching"] == 0
    assert "No event matches." in viewer.get("/events", day=DAY, source="nowhere").text


@pytest.mark.medium
def test_dead_letters_show_their_reason_and_the_command(viewer: Viewer):
    found = viewer.json("/api/v1/dead-letters", day=DAY)
    assert {letter["record"].rpartition("/")[2] for letter in found["dead-letters"]} == {"8", "9"}
    code = found["dead-letters"][0]["code"]
    assert viewer.json("/api/v1/dead-letters", day=DAY, code=code)["matching"] == 2
    page = viewer.get("/dead-letters", day=DAY).text
    assert page.count(f"<td>{code}</td>") == 2
    assert f"imgpipeline dead-letters replay --day {DAY}" in page
    assert HOSTILE_SOURCE not in page
    assert viewer.json("/api/v1/dead-letters", day=DAY, source=HOSTILE_SOURCE)["matching"] == 1
    assert f'href="/dead-letters?day={DAY}"><b>2</b> dead letters' in viewer.get("/", day=DAY).text


def test_accounts_say_what_each_session_received_and_whether_it_balances(viewer: Viewer):
    found = viewer.json("/api/v1/accounts", day=DAY)["accounts"]
    (closed,) = [entry for entry in found if entry["session"]]
    assert (closed["received"], closed["announced"], closed["dropped"]) == (4, 1, {"queue": 3})
    assert closed["balances"]
    page = viewer.get("/accounts", day=DAY).text
    assert "balanced" in page
    assert "3 <bdi>queue</bdi>" in page


@pytest.mark.medium
def test_the_account_of_an_open_session_is_as_of_its_last_notice(folder: Settings):
    made = write_chain(open_store(folder), [said(0, NoticeKind.STARTED), shot(1), account(2, 1), shot(3)])
    with viewing(folder) as viewer:
        page = viewer.get("/accounts", day=DAY).text
    assert ("open, as of the last notice" in page, ">balanced<" in page) == (True, False)
    append(made, [account(4, 2, minute=1)])
    with viewing(folder) as viewer:
        page = viewer.get("/accounts", day=DAY).text
    assert ("1 missing" in page, "as of the last notice" in page) == (True, False)


@pytest.mark.parametrize("path", PATHS)
def test_a_list_has_pages_and_csv(viewer: Viewer, path: str):
    name = path[1:]
    whole = viewer.json(f"/api/v1{path}", day=DAY)
    first = viewer.json(f"/api/v1{path}", day=DAY, limit=1)
    assert first[name] == whole[name][:1]
    assert first["next"] == (1 if whole["matching"] > 1 else None)
    second = viewer.json(f"/api/v1{path}", day=DAY, limit=1, after=1)
    assert second[name] == whole[name][1:2]
    rows = list(csv.DictReader(io.StringIO(viewer.get(f"/api/v1{path}", day=DAY, format="csv").text)))
    assert len(rows) == whole["matching"]
    page = viewer.get(path, day=DAY, limit=1).text
    assert (f'href="{path}?day={DAY}&amp;after=1&amp;limit=1"' in page) == (whole["matching"] > 1)


@pytest.mark.parametrize("path", PATHS)
def test_a_list_is_an_arrow_stream_with_all_columns_and_the_same_types_without_rows(viewer: Viewer, path: str):
    whole = viewer.json(f"/api/v1{path}", day=DAY)[path[1:]]
    table, empty = (
        pa.ipc.open_stream(viewer.get(f"/api/v1{path}", day=DAY, format="arrow", **more).content).read_all()
        for more in ({}, {"source": "nowhere"})
    )
    rows = table.to_pylist(maps_as_pydicts="strict")
    assert plain(rows) == whole
    assert empty.num_rows == 0
    assert empty.schema == table.schema
    first = viewer.get(f"/api/v1{path}", day=DAY, format="arrow", limit=1).content
    assert pa.ipc.open_stream(first).read_all().to_pylist(maps_as_pydicts="strict") == rows[:1]


@pytest.mark.parametrize("path", PATHS)
def test_a_csv_without_rows_has_the_same_header(viewer: Viewer, path: str):
    header, empty = (
        viewer.get(f"/api/v1{path}", day=DAY, format="csv", **chosen).text.splitlines()[0]
        for chosen in ({}, {"source": "nowhere"})
    )
    assert empty == header


@pytest.mark.parametrize("path", PATHS)
def test_a_day_without_rows_says_so(viewed: ViewedStore, path: str):
    shown = viewed.viewer.get(path).text
    assert "matches" in shown or "Nothing was received" in shown or "<table>" in shown
    assert viewed.viewer.get(path, day="2020-01-01").status_code == 404
