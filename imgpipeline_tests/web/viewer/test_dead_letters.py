"""A dead letter's page shows its record, and announces it again, once, for those who may."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.errors import DeadLetterCode
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline.web.keys import KeyFile, Scope
from imgpipeline_tests.detect.conftest import LaneUnderTest, lane, message
from imgpipeline_tests.ledger.samples import NOON, dead_letter, rejected, write_chain
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.web.viewer.viewing import Viewer, links, viewing

__all__ = ["lane"]

HOSTILE = "<script>document.title=1</script>"
PATH = "images/camera/late.jpg"
OWN = "/dead-letters/frames/0"


def letter(offset: int, value: bytes, **changes: object) -> DeadLetter:
    return rejected(replace(dead_letter(offset), **changes), value, headers=((HOSTILE, b"\xff\x00"),))


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    folder = tmp_path_factory.mktemp("letters")
    settings = Settings(_env_file=None, store_url=(folder / "store").as_uri(), api_keys_file=folder / "keys.json",
                        kafka_bootstrap_servers=f"{LOOPBACK}:{free_port()}")  # type: ignore[call-arg]  # pydantic-settings' own argument  # fmt: skip
    letters = [
        letter(0, f'{{"image": "{HOSTILE}"}}'.encode(), message=HOSTILE),
        letter(1, bytes(range(256)) * 40),
        replace(dead_letter(2), raw=None, raw_size_bytes=3_000_000),
    ]
    write_chain(open_store(settings), letters)
    with viewing(settings) as made:
        yield made


def test_the_record_is_shown_as_text(viewer: Viewer):
    page = viewer.get(f"{OWN}/0").text
    assert HOSTILE not in page
    assert "{&#34;image&#34;: &#34;&lt;script&gt;document.title=1&lt;/script&gt;&#34;}" in page
    assert "00000000  ff 00" in page
    assert "Replay</button>" in page


def test_bytes_are_shown_in_hexadecimal_and_downloaded_unchanged(viewer: Viewer):
    page = viewer.get(f"{OWN}/1").text
    assert "00000010  10 11 12 13" in page
    assert "Only the first 4 kB are shown." in page
    value = viewer.get(f"{OWN}/1/value")
    assert value.content == bytes(range(256)) * 40
    assert value.headers["content-type"] == "application/octet-stream"
    assert value.headers["content-disposition"].startswith("attachment")
    assert value.headers["x-content-type-options"] == "nosniff"


def test_a_record_that_was_not_kept_is_read_from_kafka_by_the_command(viewer: Viewer):
    assert "reads it from Kafka" in viewer.get(f"{OWN}/2").text
    assert viewer.get(f"{OWN}/2/value").status_code == 404


def test_the_api_answers_as_the_command_does(viewer: Viewer):
    found = viewer.json(f"/api/v1{OWN}/0")
    assert (found["topic"], found["partition"], found["offset"], found["state"]) == ("frames", 0, 0, "open")
    assert base64.b64decode(found["raw_base64"]).startswith(b'{"image"')


@pytest.mark.medium
def test_an_unreachable_broker_is_named_and_nothing_is_replayed(viewer: Viewer):
    answer = viewer.http.post(f"/api/v1{OWN}/0/replays")
    assert answer.status_code == 503
    assert "Kafka" in answer.json()["error"]


@pytest.mark.slow
def test_a_record_is_replayed_once_with_the_right_scope(lane: LaneUnderTest, tmp_path: Path):
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
def test_the_page_of_a_replayed_letter_offers_no_second_replay_and_leads_to_the_failure(lane: LaneUnderTest):
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
def test_concurrent_clicks_replay_a_record_once(lane: LaneUnderTest):
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
