"""Messages of other producers: settings say where time, path and source come from."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imgpipeline.contracts.messages import (
    FrameMessage,
    MessageForm,
    check_image_path_template,
    check_source_template,
    check_timestamp_fields,
    classic_value,
    parse_message,
)
from imgpipeline.contracts.records import KafkaRecord
from imgpipeline.contracts.templates import FieldTemplate
from imgpipeline.errors import BadInputError

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
USUAL = MessageForm()
CLASSIC = MessageForm(timestamp_fields=("timestamp", "upload_timestamp", "backfill_timestamp"))


def read(form: MessageForm = USUAL, *, key: bytes | None = None, topic: str = "frames", **data: Any) -> FrameMessage:
    return parse_message(KafkaRecord(topic, 0, 0, int(NOON.timestamp() * 1000), key, json.dumps(data).encode()), form)


@pytest.mark.parametrize("name", ["upload_timestamp", "backfill_timestamp"])
def test_the_time_is_read_from_the_configured_fields(name: str):
    found = read(CLASSIC, image_path="s3://group/images/frame_000000.jpg", **{name: "2025-04-10T18:30:00.123456"})
    assert found.timestamp == datetime(2025, 4, 10, 18, 30, 0, 123_456, UTC)
    assert found.has_own_timestamp
    assert found.attributes == {}


def test_the_first_field_with_a_time_counts():
    assert read(CLASSIC, image_path="a/b.jpg", upload_timestamp=1767960000, timestamp="").timestamp == NOON


def test_without_the_setting_the_field_is_an_attribute_and_the_record_gives_the_time():
    found = read(image_path="a/b.jpg", upload_timestamp="2025-04-10T18:30:00")
    assert (found.timestamp, found.has_own_timestamp) == (NOON, False)
    assert found.attributes == {"upload_timestamp": "2025-04-10T18:30:00"}


def test_the_error_for_an_invalid_time_names_its_field():
    with pytest.raises(BadInputError, match="upload_timestamp: got 'yesterday'"):
        read(CLASSIC, image_path="a/b.jpg", upload_timestamp="yesterday")


def test_a_time_without_an_offset_is_in_the_configured_time_zone():
    berlin = MessageForm(zone=ZoneInfo("Europe/Berlin"))
    assert read(berlin, image_path="a/b.jpg", timestamp="2026-01-09T13:00:00").timestamp == NOON
    assert read(berlin, image_path="a/b.jpg", timestamp="2026-01-09T12:00:00Z").timestamp == NOON


def test_a_path_is_built_from_a_number():
    found = read(MessageForm(image_path=FieldTemplate("image_database/{image_num:05d}.jpg")), image_num=7)
    assert (found.image_path, found.frame_number, found.source) == ("image_database/00007.jpg", 7, "image_database")
    assert found.attributes == {"image_num": 7}


@pytest.mark.parametrize("value", ["seven", -1, 7.5, True, [7], ""])
def test_the_error_for_an_invalid_number_names_its_field(value: object):
    with pytest.raises(BadInputError, match="image_num"):
        read(MessageForm(image_path=FieldTemplate("image_database/{image_num:05d}.jpg")), image_num=value)


def test_the_error_for_a_missing_path_lists_the_expected_fields():
    with pytest.raises(BadInputError, match="or image_num"):
        read(MessageForm(image_path=FieldTemplate("a/{image_num}.jpg")), video_id=1, frame_id=2)


@pytest.mark.parametrize(
    "key",
    [b"2026/gate/0007.jpg", b"0007.jpg", b"s3://captchas/2026/gate/0007.jpg", b"s3a://captchas/2026/gate/0007.jpg"],
)
def test_a_key_that_names_the_image_is_not_the_source(key: bytes):
    assert read(key=key, bucket_name="captchas", image_key="2026/gate/0007.jpg").source == "gate"
    assert read(key=b"0007.jpg", bucket_name="captchas", image_key="0007.jpg").source == "captchas"


def test_any_other_key_is_the_source():
    assert read(key=b"yard", image_path="images/gate/0007.jpg").source == "yard"
    assert read(key=b"gate", image_path="images/gate/0007.jpg").source == "gate"


def test_a_template_gives_the_source():
    form = MessageForm(source=FieldTemplate("{bucket}-{folder}"))
    assert read(form, key=b"k", bucket="captchas", image_key="2026/gate/0007.jpg").source == "captchas-gate"
    assert read(form, bucket="captchas", image_key="2026/gate/0007.jpg", source="explicit").source == "explicit"
    assert read(MessageForm(source=FieldTemplate("{key}")), key=b"a/7.jpg", image_path="b/a/7.jpg").source == "a/7.jpg"


def test_without_a_field_of_the_template_the_default_source_is_used():
    assert read(MessageForm(source=FieldTemplate("{camera}")), key=b"yard", image_path="a/b.jpg").source == "yard"


def test_a_frame_in_several_topics_has_one_source():
    form = MessageForm(topics=("car-frames", "person-frames"))
    sources = {read(form, topic=topic, image_path="0007.jpg").source for topic in form.topics}
    assert sources == {"car-frames"}
    assert read(form, topic="earlier", image_path="0007.jpg").source == "earlier"


@pytest.mark.parametrize(
    "template",
    [
        "",
        "a/b.jpg",
        "/{n}.jpg",
        "/{n}/a.jpg",
        "//a/{n}",
        "file://a/{n}",
        "../{n}.jpg",
        "a/../{n}",
        "file:///{n}",
        "http://a/{n}",
        "{n",
        "{n!r}",
        "{n:x}",
        "{0}",
        pytest.param("a\\{n}", id="backslash"),
    ],
    ids=str,
)
def test_an_unsafe_path_template_is_rejected(template: str):
    with pytest.raises(ValueError, match=r"expected"):
        check_image_path_template(template)


@pytest.mark.parametrize("place", ["s3://archive", "/app/frame_store", "file:///app/frame_store"])
def test_a_path_template_may_name_a_bucket_or_a_folder(place: str):
    assert check_image_path_template(f"{place}/{{n:06d}}.jpg") == f"{place}/{{n:06d}}.jpg"


def test_a_source_template_needs_a_field_and_time_fields_must_be_valid():
    with pytest.raises(ValueError, match="expected a field"):
        check_source_template("gate")
    for names in ((), ("image_path",), ("a b",), ("",)):
        with pytest.raises(ValueError, match="expected"):
            check_timestamp_fields(names)


def test_the_classic_form_equals_the_classic_producer():
    message = FrameMessage("gate", "images/frame_000000.jpg", datetime(2025, 4, 10, 16, 30, tzinfo=UTC))
    value = classic_value(message, store_url="s3://2025-group19", zone=ZoneInfo("Europe/Berlin"))
    assert json.loads(value) == {
        "image_path": "s3://2025-group19/images/frame_000000.jpg",
        "upload_timestamp": "2025-04-10T18:30:00.000000",
    }
    in_folder = json.loads(classic_value(message, store_url="file:///store"))
    assert in_folder["image_path"] == "images/frame_000000.jpg"


@pytest.mark.parametrize("path", ["s3://archive/1.jpg", "file:///archive/1.jpg", "/archive/1.jpg"])
def test_the_classic_form_keeps_a_path_that_is_not_below_the_store(path: str):
    message = FrameMessage("gate", path, datetime(2025, 4, 10, 16, 30, tzinfo=UTC))
    assert json.loads(classic_value(message, store_url="s3://2025-group19"))["image_path"] == path


@given(st.datetimes(timezones=st.just(UTC)), st.text(min_size=1, max_size=50))
@example(datetime(2025, 4, 10, 16, 30, tzinfo=UTC), "a://b")
def test_the_classic_form_is_read_back(time: datetime, name: str):
    message = FrameMessage("gate", f"images/{name.encode('utf-8', 'replace').decode()}", time)
    if "\0" in name:
        return
    found = parse_message(KafkaRecord("t", 0, 0, 0, b"gate", classic_value(message, store_url="s3://b/p")), CLASSIC)
    assert (found.source, found.timestamp) == ("gate", message.timestamp)
    assert found.image_path == f"s3://b/p/{message.image_path}"
