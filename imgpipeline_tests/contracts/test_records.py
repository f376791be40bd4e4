"""A replay names the record that it announces again and keeps its time; invalid headers are ignored."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.messages import parse_message
from imgpipeline.contracts.outcomes import DeadLetter, make_dead_letter
from imgpipeline.contracts.records import KafkaRecord, RecordReference, parse_reference, resolve_reference
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
def test_a_reference_is_read_back_from_its_header(meant: ChainId, carried_by: ChainId, offset: int):
    text = RecordReference(meant, offset).to_header([carried_by, ChainId(carried_by.topic, carried_by.topic_id, 5)])
    assert resolve_reference(text, carried_by) == RecordReference(meant, offset)


def test_a_reference_is_written_in_full_if_partitions_have_chains_with_different_ids():
    """The broker chooses the partition of a replay."""
    renewed = ChainId("frames", "id-1~2", 1)
    text = RecordReference(CHAIN, 5).to_header([CHAIN, renewed])
    assert resolve_reference(text, renewed) == resolve_reference(text, CHAIN) == RecordReference(CHAIN, 5)


@given(chains, st.integers(0, 10**18 - 1))
def test_a_reference_within_one_incarnation_of_the_topic_has_the_short_form(chain: ChainId, offset: int):
    text = RecordReference(chain, offset).to_header([chain])
    assert text == f"{chain.topic}/{chain.partition}/{offset}"
    assert parse_reference(text) == (chain.topic, None, chain.partition, offset)


@pytest.mark.parametrize("text", ["", "frames", "frames/0", "frames/0/x", "frames/-1/2", "a b/0/1", "frames/0/1@"])
def test_an_invalid_reference_is_rejected_or_ignored(text: str):
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
def test_only_a_replay_can_carry_an_older_time(headers: dict[str, bytes]):
    assert record(**headers).time == record().time


def test_a_dead_letter_keeps_value_key_and_headers_for_a_replay():
    letter = buried(record(b"\xff", replay_of=b"frames/0/3", source=b"cam-2"))
    assert letter.replay_of == "frames/0/3"
    assert [(name, base64.b64decode(value)) for name, value in letter.headers] == [
        ("replay_of", b"frames/0/3"),
        ("source", b"cam-2"),
    ]
    assert (letter.raw_base64, letter.key_base64, letter.raw_size_bytes) == ("/w==", "Y2Ft", 1)


@pytest.mark.parametrize("most_bytes", [0, 5])
def test_a_dead_letter_keeps_no_value_if_the_headers_are_too_large(most_bytes: int):
    letter = buried(record(b"12345", source=b"a camera with a long name"), most_bytes)
    assert (letter.raw_base64, letter.headers, letter.raw_size_bytes) == (None, (), 5)


def test_a_dead_letter_of_an_earlier_release_is_read():
    written = buried(record()).to_json()
    assert not {"replay_of", "headers"} & written.keys(), "other lines are unchanged"
    assert DeadLetter.from_json(written) == buried(record())
