"""Events, accounts and dead letters of a day; a dead letter's page announces its record again, once."""

import base64
import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.contracts.text import plain
from imgpipeline.errors import DeadLetterCode
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline_tests.daily.builds import build_table
from imgpipeline_tests.detect.conftest import lane as lane  # noqa: PLC0414 - a fixture
from imgpipeline_tests.detect.conftest import message
from imgpipeline_tests.events.samples import rules
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, rejected, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.web.viewer.conftest import HOSTILE_SOURCE
from imgpipeline_tests.web.viewer.viewing import Viewer, links, viewing

pytestmark = pytest.mark.medium
CROWD = '[[rule]]\nname = "crowd"\nkind = "count"\nabove = 1\n'
PATHS = ("/events", "/dead-letters", "/accounts")


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shows a day with two events, two dead letters and a closed session. For reading only."""
    settings = Settings(_env_file=None, store_url=(tmp_path_factory.mktemp("lists") / "store").as_uri())
    store = open_store(settings)
    cars = [seen(n, ["car"] * (n % 4), timestamp=NOON + timedelta(seconds=n)) for n in range(8)]
    letters = [dead_letter(8), replace(dead_letter(9), source=HOSTILE_SOURCE)]
    session = [said(10, NoticeKind.STARTED), shot(11), account(12, 1, dropped={"queue": 3}), said(13, NoticeKind.ENDED)]
    write_chain(store, [*cars, *letters, *session])
    rebuild_day(store, DAY, now=NOON)
    build_table(store, DAY, EVENTS, rules=rules(CROWD), settings=settings, now=NOON + timedelta(hours=3))
    with viewing(settings) as running:
        yield running


def test_events_lead_to_their_frames(viewer):
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


def test_dead_letters_show_their_reason_and_the_command(viewer):
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


def test_accounts_say_what_each_session_received_and_whether_it_balances(viewer):
    found = viewer.json("/api/v1/accounts", day=DAY)["accounts"]
    (closed,) = [entry for entry in found if entry["session"]]
    assert (closed["received"], closed["announced"], closed["dropped"]) == (4, 1, {"queue": 3})
    assert closed["balances"]
    page = viewer.get("/accounts", day=DAY).text
    assert "balanced" in page
    assert "3 <bdi>queue</bdi>" in page


def test_the_account_of_an_open_session_is_as_of_its_last_notice(folder):
    made = write_chain(open_store(folder), [said(0, NoticeKind.STARTED), shot(1), account(2, 1), shot(3)])
    with viewing(folder) as viewer:
        page = viewer.get("/accounts", day=DAY).text
    assert ("open, as of the last notice" in page, ">balanced<" in page) == (True, False)
    append(made, [account(4, 2, minute=1)])
    with viewing(folder) as viewer:
        page = viewer.get("/accounts", day=DAY).text
    assert ("1 missing" in page, "as of the last notice" in page) == (True, False)


@pytest.mark.parametrize("path", PATHS)
def test_a_list_has_pages_and_csv(viewer, path):
    name = path[1:]
    whole = viewer.json(f"/api/v1{path}", day=DAY)
    first = viewer.json(f"/api/v1{path}", day=DAY, limit=1)
    assert first[name] == whole[name][:1]
    assert first["next"] == (1 if whole["matching"] > 1 else None)
    second = viewer.json(f"/api/v1{path}", day=DAY, limit=1, after=1)
    assert second[name] == whole[name][1:2]
    table, empty = (
        viewer.get(f"/api/v1{path}", day=DAY, format="csv", **chosen).text for chosen in ({}, {"source": "nowhere"})
    )
    assert len(list(csv.DictReader(io.StringIO(table)))) == whole["matching"]
    assert empty.splitlines() == table.splitlines()[:1]
    page = viewer.get(path, day=DAY, limit=1).text
    assert (f'href="{path}?day={DAY}&amp;after=1&amp;limit=1"' in page) == (whole["matching"] > 1)


@pytest.mark.parametrize("path", PATHS)
def test_a_list_is_an_arrow_stream_with_all_columns_and_the_same_types_without_rows(viewer, path):
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


HOSTILE = "<script>document.title=1</script>"
PATH = "images/camera/late.jpg"
OWN = "/dead-letters/frames/0"


def letter(offset: int, value: bytes, **changes: object) -> DeadLetter:
    return rejected(replace(dead_letter(offset), **changes), value, headers=((HOSTILE, b"\xff\x00"),))


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    folder = tmp_path_factory.mktemp("letters")
    settings = Settings(_env_file=None, store_url=(folder / "store").as_uri(), api_keys_file=folder / "keys.json",
                        kafka_bootstrap_servers=f"{LOOPBACK}:{free_port()}")  # fmt: skip
    made = [
        letter(0, f'{{"image": "{HOSTILE}"}}'.encode(), message=HOSTILE),
        letter(1, bytes(range(256)) * 40),
        replace(dead_letter(2), raw=None, raw_size_bytes=3_000_000),
    ]
    write_chain(open_store(settings), made)
    with viewing(settings) as running:
        yield running


def test_the_record_is_shown_as_text(letters):
    page = letters.get(f"{OWN}/0").text
    assert HOSTILE not in page
    assert "{&#34;image&#34;: &#34;&lt;script&gt;document.title=1&lt;/script&gt;&#34;}" in page
    assert "00000000  ff 00" in page
    assert "Replay</button>" in page


def test_bytes_are_shown_in_hexadecimal_and_downloaded_unchanged(letters):
    page = letters.get(f"{OWN}/1").text
    assert "00000010  10 11 12 13" in page
    assert "Only the first 4 kB are shown." in page
    value = letters.get(f"{OWN}/1/value")
    assert value.content == bytes(range(256)) * 40
    assert value.headers["content-type"] == "application/octet-stream"
    assert value.headers["content-disposition"].startswith("attachment")
    assert value.headers["x-content-type-options"] == "nosniff"


def test_a_record_that_was_not_kept_is_read_from_kafka_by_the_command(letters):
    assert "reads it from Kafka" in letters.get(f"{OWN}/2").text
    assert letters.get(f"{OWN}/2/value").status_code == 404


def test_the_api_answers_as_the_command_does(letters):
    found = letters.json(f"/api/v1{OWN}/0")
    assert (found["topic"], found["partition"], found["offset"], found["state"]) == ("frames", 0, 0, "open")
    assert base64.b64decode(found["raw_base64"]).startswith(b'{"image"')


@pytest.mark.slow
def test_an_unreachable_broker_is_named_and_nothing_is_replayed(letters):
    answer = letters.http.post(f"/api/v1{OWN}/0/replays")
    assert answer.status_code == 503
    assert "Kafka" in answer.json()["error"]


@pytest.mark.slow
def test_a_record_is_replayed_once_with_the_right_scope(lane, tmp_path):
    lane.announce(1)
    lane.send(message(image_path=PATH, frame_number=7))
    lane.follow()
    lane.put_image(PATH)
    settings = lane.settings.model_copy(update={"api_keys_file": tmp_path / "keys.json"})
    keys = KeyFile(settings.api_keys_file)
    reader, operator = (
        {"Authorization": f"Bearer {keys.add((), NOON, scopes=scopes, name='anna')}"}
        for scopes in ((Scope.READ,), (Scope.READ, Scope.REPLAY))
    )
    own = f"/dead-letters/{settings.kafka_topic}/0/1"
    with viewing(settings) as viewer:
        http = viewer.http
        assert http.post(f"/api/v1{own}/replays").status_code == 401
        assert http.post(f"/api/v1{own}/replays", headers=reader).status_code == 403
        assert http.post(f"{own}/replay", headers=reader).status_code == 403
        forged = {**operator, "Sec-Fetch-Site": "cross-site"}
        assert http.post(f"{own}/replay", headers=forged).status_code == 403
        assert "needs an API key with the scope" in http.get(own, headers=reader).text
        assert http.post(f"{own}/replay", headers=operator).headers["location"] == own
        again = http.post(f"/api/v1{own}/replays", headers=operator).json()
        assert again["announced"] is False
        assert "waits for a detection run" in again["said"]
        lane.follow()
        found = http.get(f"/api/v1{own}", headers=operator).json()
        assert (found["code"], found["state"]) == (DeadLetterCode.OBJECT_NOT_FOUND, "resolved")
        assert "Replay</button>" not in http.get(own, headers=operator).text
        done = http.post(f"/api/v1{own}/replays", headers=operator).json()
        assert done["announced"] is False
    assert [frame.replay_of for frame in lane.frames()] == [None, f"{settings.kafka_topic}/0/1"]


@pytest.mark.slow
def test_the_page_of_a_replayed_letter_offers_no_second_replay_and_leads_to_the_failure(lane):
    lane.announce(1)
    lane.send(message(image_path=PATH, frame_number=7))
    lane.follow()
    own, later = (f"/dead-letters/{lane.settings.kafka_topic}/0/{offset}" for offset in (1, 2))
    with viewing(lane.settings) as viewer:
        assert "<dd>open</dd>" in viewer.get(own).text
        for said in ("Replayed on the topic", "It was replayed before"):
            answer = viewer.http.post(f"{own}/replay")
            assert (answer.status_code, answer.headers["location"]) == (303, own)
            page = viewer.get(own).text
            assert said in page
            assert "<dd>open, waiting for a detection run</dd>" in page
            assert "Replay</button>" not in page
        lane.follow()  # the image is still missing
        page = viewer.get(own).text
        assert "It was replayed before" not in page
        assert f'failed again: <a href="{later}">' in page
        assert "Replay</button>" in viewer.get(later).text
        listed = viewer.get(links(page, "/dead-letters?day=")[0]).text
        assert links(listed, "/dead-letters/") == [later, own, later]


@pytest.mark.slow
def test_concurrent_clicks_replay_a_record_once(lane):
    lane.announce(1)
    lane.send(message(image_path=PATH, frame_number=7))
    lane.follow()
    lane.put_image(PATH)
    address = f"/api/v1/dead-letters/{lane.settings.kafka_topic}/0/1/replays"
    with viewing(lane.settings) as viewer, ThreadPoolExecutor(4) as pool:
        answers = [one.json() for one in pool.map(lambda _: viewer.http.post(address), range(4))]
    assert sorted(one["announced"] for one in answers) == [False, False, False, True]
    lane.follow()
    assert [frame.replay_of for frame in lane.frames()] == [None, f"{lane.settings.kafka_topic}/0/1"]
