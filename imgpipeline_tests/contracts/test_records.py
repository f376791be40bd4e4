"""A replay names the record that it announces again and keeps its time; what a dead letter keeps of its record."""

import base64
import json
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.messages import parse_message
from imgpipeline.contracts.outcomes import DeadLetter, make_dead_letter
from imgpipeline.contracts.records import KafkaRecord, RawRecord, RecordReference, parse_reference, resolve_reference
from imgpipeline.errors import BadInputError, ConfigurationError, DeadLetterCode
from imgpipeline_tests.contracts.strategies import chains

CHAIN = ChainId("frames", "id-1", 0)
NOON_MS = 1_767_960_000_000


def record(value: bytes | None = b'{"image_path": "a/b.jpg"}', **headers: bytes) -> KafkaRecord:
    return KafkaRecord("frames", 0, 7, NOON_MS, b"cam", value, tuple(headers.items()))


def buried(of: KafkaRecord, most_bytes: int = 100) -> DeadLetter:
    error = BadInputError(DeadLetterCode.INVALID_MESSAGE, "no JSON")
    return make_dead_letter(of, error, message=None, day=None, most_bytes=most_bytes)


@given(chains, chains, st.integers(0, 10**18 - 1))
def test_a_reference_is_read_back_from_its_header(meant, carried_by, offset):
    text = RecordReference(meant, offset).to_header([carried_by, ChainId(carried_by.topic, carried_by.topic_id, 5)])
    assert resolve_reference(text, carried_by) == RecordReference(meant, offset)


def test_a_reference_is_written_in_full_if_partitions_have_chains_with_different_ids():
    """The broker chooses the partition of a replay."""
    renewed = ChainId("frames", "id-1~2", 1)
    text = RecordReference(CHAIN, 5).to_header([CHAIN, renewed])
    assert resolve_reference(text, renewed) == resolve_reference(text, CHAIN) == RecordReference(CHAIN, 5)


@given(chains, st.integers(0, 10**18 - 1))
def test_a_reference_within_one_incarnation_of_the_topic_has_the_short_form(chain, offset):
    text = RecordReference(chain, offset).to_header([chain])
    assert text == f"{chain.topic}/{chain.partition}/{offset}"
    assert parse_reference(text) == (chain.topic, None, chain.partition, offset)


@pytest.mark.parametrize("text", ["", "frames", "frames/0", "frames/0/x", "frames/-1/2", "a b/0/1", "frames/0/1@"])
def test_an_invalid_reference_is_rejected_or_ignored(text):
    assert resolve_reference(text, CHAIN) is None
    with pytest.raises(ConfigurationError, match="TOPIC/PARTITION/OFFSET"):
        parse_reference(text)


def test_a_short_reference_to_another_topic_is_ignored():
    assert resolve_reference("others/0/1", CHAIN) is None


def test_a_replay_without_own_time_keeps_the_time_of_the_record_that_it_replays():
    replay = record(replay_of=b"frames/0/41", replay_timestamp_ms=b"1767873600000")
    assert parse_message(replay).timestamp.isoformat() == "2026-01-08T12:00:00+00:00"
    assert parse_message(replay).has_own_timestamp is False
    assert parse_message(replay).replay_of == "frames/0/41"


@pytest.mark.parametrize(
    "headers",
    [
        {"replay_timestamp_ms": b"1767873600000"},
        {"replay_of": b"nothing", "replay_timestamp_ms": b"1767873600000"},
        {"replay_of": b"frames/0/41", "replay_timestamp_ms": b"soon"},
        {"replay_of": b"frames/0/41", "replay_timestamp_ms": b"-5"},
    ],
)
def test_only_a_replay_can_carry_an_older_time(headers):
    assert record(**headers).time == record().time


def test_a_dead_letter_has_value_key_and_headers_for_a_replay_until_they_are_stored():
    headers = (("replay_of", b"frames/0/3"), ("source", b"cam-2"))
    letter = buried(record(b"\xff", replay_of=b"frames/0/3", source=b"cam-2"))
    assert letter.raw == RawRecord(b"\xff", b"cam", headers)
    assert (letter.replay_of, letter.raw_size_bytes) == ("frames/0/3", 1)
    assert letter.raw_sha256 == sha256(b"\xff").hexdigest()


def test_a_segment_holds_no_byte_of_the_record():
    letter = buried(record(b"a secret", trace=b"another"))
    line = json.dumps(letter.to_json())
    assert not any(word in line for word in ("secret", "another", "base64", base64.b64encode(b"a secret").decode()))
    assert DeadLetter.from_json(letter.to_json()) == letter
    assert DeadLetter.from_json(letter.to_json()).raw is None


@given(st.binary(), st.none() | st.binary(), st.lists(st.tuples(st.text(), st.binary())).map(tuple))
def test_a_raw_record_is_read_as_it_was_written(value, key, headers):
    raw = RawRecord(value, key, headers)
    assert RawRecord.from_json(json.loads(json.dumps(raw.to_json()))) == raw


@pytest.mark.parametrize(("most_bytes", "is_kept"), [(0, False), (38, False), (39, True)])
def test_a_record_whose_value_key_and_headers_are_too_large_together_is_not_kept(most_bytes, is_kept):
    letter = buried(record(b"12345", source=b"a camera with a long name"), most_bytes)
    assert (letter.raw is not None, letter.raw_size_bytes) == (is_kept, 5)
    assert letter.raw_sha256 == sha256(b"12345").hexdigest()


NOTICE = b'{"source": "cam", "session": "b3f0", "kind": "account"}'
LONG = "s" * 2000


@pytest.mark.parametrize(
    ("value", "headers", "session"),
    [
        (b"no json", {}, ("cam", None)),
        (b'{"attributes": {"session": "b3f0"}}', {}, ("cam", "b3f0")),
        (b'{"session": "b3f0", "timestamp": NaN}', {}, ("cam", "b3f0")),
        (b'{"session": "b3f0"}', {"session": b"c4a1", "source": b"cam-2"}, ("cam-2", "c4a1")),
        (b'{"session": 5, "attributes": 7}', {}, ("cam", None)),
        (b'{"session": "\\ud800"}', {}, ("cam", None)),
        (json.dumps({"session": LONG}).encode(), {}, ("cam", None)),
        (b"no json", {"source": b"\xff"}, None),
        (b"[" * 100_000, {}, ("cam", None)),
        (None, {}, ("cam", None)),
        (NOTICE, {}, None),
        (NOTICE[:-1] + b', "image_path": "a.jpg"}', {}, ("cam", "b3f0")),
        (b'{"kind": {}, "session": "b3f0"}', {}, ("cam", "b3f0")),
    ],
)  # fmt: skip
def test_a_dead_letter_names_the_session_that_accounts_for_it(value, headers, session):
    letter = buried(replace(record(value or b"", **headers), value=value))
    assert letter.session == session
    assert DeadLetter.from_json(json.loads(json.dumps(letter.to_json(), ensure_ascii=False).encode())) == letter


def test_a_dead_letter_of_a_readable_message_has_the_session_of_its_frame():
    good = record(b'{"source": "cam-3", "image_path": "a.jpg", "attributes": {"session": "b3f0"}}')
    error = BadInputError(DeadLetterCode.DECODE_FAILED, "cut")
    letter = make_dead_letter(good, error, message=parse_message(good), day=None, most_bytes=0)
    assert letter.session == ("cam-3", "b3f0")


def test_the_value_of_a_record_that_ended_its_process_is_not_parsed_again():
    error = BadInputError(DeadLetterCode.PROCESS_CRASHED, "SIGSEGV")
    letter = make_dead_letter(record(b'{"session": "b3f0"}'), error, message=None, day=None, most_bytes=100)
    assert letter.session == ("cam", None)
