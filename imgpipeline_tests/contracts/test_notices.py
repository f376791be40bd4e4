"""Records that report on a source are notices, records that announce frames are not, and errors name the field."""

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.notices import Account, Notice, NoticeKind, parse_record
from imgpipeline.contracts.outcomes import outcome_from_json, outcome_to_json
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline_tests.contracts.strategies import notices

ACCOUNT: dict[str, Any] = {
    "source": "cam-1", "session": "b3f0", "kind": "account",
    "from": "2026-01-09T12:00:00Z", "to": "2026-01-09T12:01:00Z",
    "received_from": "2026-01-09T12:00:02Z", "received_to": "2026-01-09T12:01:02Z",
    "received": 100, "announced": 60, "gated": 30, "dropped": {"queue": 9}, "failed": 1, "observed_s": 59.5,
}  # fmt: skip
ONLINE: dict[str, Any] = {
    "source": "cam-1",
    "session": "b3f0",
    "kind": "online",
    "timestamp": "2026-01-09T12:00:00Z",
    "reason": "reconnected",
}


def record(data: dict[str, Any], *headers: tuple[str, bytes]) -> KafkaRecord:
    return KafkaRecord("frames", 0, 7, 1767960000000, b"cam-1", json.dumps(data).encode(), headers)


def parsed(data: dict[str, Any], *headers: tuple[str, bytes]) -> Notice:
    found = parse_record(record(data, *headers))
    assert isinstance(found, Notice)
    return found


def test_an_account_counts_the_frames_of_an_interval():
    found = parsed(ACCOUNT)
    noon = datetime(2026, 1, 9, 12, tzinfo=UTC)
    assert (found.offset, found.kind, found.source, found.session) == (7, NoticeKind.ACCOUNT, "cam-1", "b3f0")
    assert (found.interval_start, found.interval_end) == (noon, noon.replace(minute=1))
    assert found.account == Account(
        100, 60, 30, {"queue": 9}, 1, 59.5, noon.replace(second=2), noon.replace(minute=1, second=2)
    )
    assert found.day == date(2026, 1, 9)


@pytest.mark.parametrize("kind", ["started", "ended", "offline", "online"])
def test_other_kinds_have_a_time_and_a_reason(kind):
    found = parsed(ONLINE | {"kind": kind})
    assert (found.kind, found.reason, found.account) == (kind, "reconnected", None)
    assert found.interval_start == found.interval_end == datetime(2026, 1, 9, 12, tzinfo=UTC)


def test_missing_counts_are_zero_and_other_fields_are_kept():
    short = {name: ACCOUNT[name] for name in ("source", "session", "kind", "from", "to")}
    found = parsed(short | {"received": 1, "announced": 1, "observed_s": 0, "version": "2.1", "attributes": {"a": 1}})
    assert found.account == Account(1, 1)
    assert found.attributes == {"version": "2.1", "a": 1}


@pytest.mark.parametrize(
    "image",
    [
        {"image_path": "a.jpg"},
        {"bucket": "b", "image_key": "a.jpg"},
        {"video_id": "v", "frame_id": 3},
    ],
    ids=["path", "bucket", "video"],
)
def test_a_message_with_an_image_field_is_never_a_notice(image):
    found = parse_record(record(ACCOUNT | image))
    assert isinstance(found, FrameMessage)
    assert found.attributes["kind"] == "account"


def test_a_message_with_an_empty_image_field_is_not_a_notice():
    with pytest.raises(BadInputError, match="image_path"):
        parse_record(record(ACCOUNT | {"image_path": None}))


def test_an_image_is_never_a_notice():
    found = parse_record(record(ACCOUNT, ("content-type", b"image/jpeg")))
    assert isinstance(found, FrameMessage)


@pytest.mark.parametrize("changes", [{"kind": "note"}, {"kind": None}, {"kind": ["account"]}], ids=str)
def test_an_unknown_kind_announces_a_frame_without_an_image(changes):
    with pytest.raises(BadInputError, match="image_path: got nothing"):
        parse_record(record(ACCOUNT | changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"source": None}, "source"),
        ({"source": ""}, "source"),
        ({"session": 5}, "session"),
        ({"session": None, "attributes": {"session": "b"}}, "session"),
        ({"from": None}, "from"),
        ({"from": "noon"}, "from"),
        ({"to": "2026-01-09T11:59:59Z"}, "to"),
        ({"to": "2026-01-10T00:00:01Z"}, "to"),
        ({"received": None}, "received"),
        ({"received": -1}, "received"),
        ({"announced": "60"}, "announced"),
        ({"dropped": 9}, "dropped"),
        ({"dropped": {"queue": 1.5}}, "queue"),
        ({"observed_s": -1}, "observed_s"),
        ({"observed_s": True}, "observed_s"),
        ({"observed_s": 86_401}, "observed_s"),
        ({"received_from": []}, "received_from"),
        ({"attributes": []}, "attributes"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:40],
)
def test_the_error_names_the_invalid_field(changes, named):
    with pytest.raises(BadInputError, match=f"^{named}") as refused:
        parse_record(record(ACCOUNT | changes))
    assert refused.value.code is DeadLetterCode.INVALID_MESSAGE


def test_an_account_may_end_at_midnight_but_not_after():
    late = ACCOUNT | {"from": "2026-01-09T23:59:00Z", "to": "2026-01-10T00:00:00Z"}
    assert parsed(late).day == date(2026, 1, 9)


def test_a_notice_can_replay_a_dead_letter():
    assert parsed(ACCOUNT, ("replay_of", b"frames/0/3")).replay_of == "frames/0/3"


@pytest.mark.parametrize("kind", ["account", "offline"])
def test_the_examples_of_the_producers_page_are_notices(kind):
    page = (Path(__file__).resolve().parents[2] / "docs" / "producers.md").read_text(encoding="utf-8")
    [example] = [json.loads(m) for m in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if f'"kind": "{kind}"' in m]
    found = parsed(example)
    assert (found.source, found.kind) == ("gate", kind)
    if found.account:
        lost = sum(found.account.dropped.values()) + found.account.failed
        assert found.account.received == found.account.announced + found.account.gated + lost


@given(notices)
def test_a_notice_is_read_as_it_was_written(item):
    assert outcome_from_json(json.loads(json.dumps(outcome_to_json(item)))) == item
