"""The topic of an MQTT message names its source; any payload becomes a frame."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.contracts.capture import ClockSource
from imgpipeline.errors import UsageError
from imgpipeline.sources.mqtt.messages import Payload, Subscription
from imgpipeline_tests.examples import examples

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
IMAGE = b"\xff\xd8\xff image"


@pytest.mark.parametrize(
    ("topic_filter", "topic", "source"),
    [
        pytest.param("images/+/raw", "images/gate/raw", "gate", id="one part"),
        pytest.param("+/cameras/+", "north/cameras/7", "north/7", id="two parts"),
        pytest.param("site/#", "site/north/7", "north/7", id="the rest"),
        pytest.param("+/b/#", "a/b/c/d", "a/c/d", id="a part and the rest"),
        pytest.param("images/raw", "images/raw", "images/raw", id="no wildcard"),
        pytest.param("images/+/raw", "images//raw", "images//raw", id="an empty part"),
        pytest.param("site/#", "site", "site", id="nothing is the rest"),
        pytest.param("$share/all/images/+/raw", "images/gate/raw", "gate", id="shared"),
        pytest.param("images/+", "images/a\x1bb", "a\N{REPLACEMENT CHARACTER}b", id="control character"),
    ],
)
def test_the_parts_that_wildcards_match_name_the_source(topic_filter, topic, source):
    assert Subscription((topic_filter,)).source_of(topic) == source


def test_the_filter_that_matches_names_the_source():
    subscription = Subscription(("images/+/raw", "site/#"))
    assert subscription.source_of("site/north") == "north"
    assert subscription.source_of("images/gate/raw") == "gate"


def test_a_source_can_be_named_for_a_topic_without_wildcards():
    assert Subscription(("images/raw",), "gate").source_of("images/raw") == "gate"
    with pytest.raises(UsageError, match="omit --source"):
        Subscription(("images/+/raw",), "gate")


@pytest.mark.parametrize("topic", ["", "a/#/b", "a/b+", "a#", "$share/group", "a\0b"])
def test_an_invalid_topic_filter_is_refused(topic):
    with pytest.raises(UsageError, match="not a topic filter"):
        Subscription((topic,))


def test_the_content_identifies_an_image_and_its_time_is_that_of_receipt():
    frame = Subscription().frame_of("images/raw", IMAGE, NOON)
    again = Subscription().frame_of("images/raw", IMAGE, NOON.replace(hour=13))
    assert (frame.data, frame.timestamp, frame.clock) == (IMAGE, NOON, ClockSource.RECEIVER)
    assert not frame.has_own_timestamp
    assert frame.name == again.name
    assert frame.name != Subscription().frame_of("images/raw", IMAGE + b"2", NOON).name


def test_a_document_has_the_image_in_base64_and_may_have_time_number_and_attributes():
    subscription = Subscription(payload=Payload.JSON)
    document = {
        "image": base64.b64encode(IMAGE).decode(),
        "timestamp": "2026-01-09T11:59:00Z",
        "number": 7,
        "attributes": {"lens": "wide"},
        "gain": 2,
    }
    frame = subscription.frame_of("images/raw", json.dumps(document).encode(), NOON)
    assert (frame.data, frame.number, frame.clock) == (IMAGE, 7, ClockSource.PRODUCER)
    assert frame.timestamp == datetime(2026, 1, 9, 11, 59, tzinfo=UTC)
    assert frame.has_own_timestamp
    assert frame.attributes == {"lens": "wide", "gain": 2, "mqtt_topic": "images/raw"}
    untimed = subscription.frame_of("images/raw", json.dumps({"image": document["image"]}).encode(), NOON)
    assert not untimed.has_own_timestamp
    assert untimed.timestamp == NOON


@given(
    st.one_of(
        st.binary(max_size=200), st.recursive(st.none() | st.text(max_size=5), st.lists).map(repr).map(str.encode)
    )
)
@settings(max_examples=examples(50))
def test_any_other_payload_becomes_an_image_that_cannot_be_decoded(payload):
    frame = Subscription(payload=Payload.JSON).frame_of("images/raw", payload, NOON)
    assert frame.data == payload
    assert "expected" in frame.attributes["mqtt_error"]
