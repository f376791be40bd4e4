"""Any record is either a frame or an error that names the invalid field."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imgpipeline.contracts.capture import ClockSource
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
from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline_tests.contracts.strategies import json_values

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
NOON_MS = 1767960000000
TIME = "2026-01-09T12:00:00Z"
SHA = "ab" * 32


def record(value: bytes | None, *, key: bytes | None = None, timestamp_ms: int = NOON_MS, **headers: bytes):
    named = tuple((name.replace("__", "-"), text) for name, text in headers.items())
    return KafkaRecord("frames", 0, 7, timestamp_ms, key, value, named)


def parse(message: Any, **others: Any) -> FrameMessage:
    return parse_message(record(json.dumps(message).encode(), **others))


def refusal(value: bytes | None, **others: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        parse_message(record(value, **others))
    assert caught.value.code is DeadLetterCode.INVALID_MESSAGE
    caught.value.message.encode()
    assert len(caught.value.message) < 400
    return caught.value.message


class TestAcceptedForms:
    def test_the_contract_itself(self):
        message = parse(
            {
                "source": "cam-1", "image_path": "images/a.jpg", "timestamp": TIME, "frame_number": 7, "width": 640,
                "height": 480, "size_bytes": 1000, "sha256": SHA.upper(), "attributes": {"lens": [1.5, None, "é"]},
            }
        )  # fmt: skip
        assert message == FrameMessage(
            source="cam-1",
            image_path="images/a.jpg",
            timestamp=NOON,
            frame_number=7,
            width=640,
            height=480,
            size_bytes=1000,
            sha256=SHA,
            attributes={"lens": [1.5, None, "é"]},
        )

    def test_a_path_alone_takes_the_record_s_time_and_its_folder_as_the_source(self):
        message = parse({"image_path": "yard/gate/a.jpg"})
        assert (message.source, message.timestamp, message.has_own_timestamp) == ("gate", NOON, False)

    def test_without_a_folder_the_topic_is_the_source_and_a_key_of_text_comes_before_both(self):
        assert parse({"image_path": "a.jpg"}).source == "frames"
        assert parse({"image_path": "gate/a.jpg"}, key=b"cam-9").source == "cam-9"

    def test_a_key_that_is_a_binary_number_names_no_source(self):
        assert parse({"image_path": "gate/a.jpg"}, key=(5).to_bytes(8, "big")).source == "gate"
        assert parse({"image_path": "gate/a.jpg"}, key=b"\xff").source == "gate"
        assert parse({"image_path": "gate/a.jpg"}, key=b"x" * 2000).source == "gate"

    @pytest.mark.parametrize("bucket", [{"bucket": "b"}, {"bucket_name": "b"}, {"bucket_name": None, "bucket": "b"}])
    def test_bucket_and_key(self, bucket):
        message = parse(bucket | {"image_key": "/cam/a.jpg", "timestamp": TIME})
        assert (message.image_path, message.source, message.timestamp) == ("s3://b/cam/a.jpg", "cam", NOON)

    def test_an_s3a_path_is_the_same_frame_as_an_s3_path(self):
        assert parse({"image_path": "s3a://b/cam/a.jpg"}) == parse({"image_path": "s3://b/cam/a.jpg"})

    @pytest.mark.parametrize(
        ("frame", "number"),
        [(12, 12), ("12", 12), ("000012", 12), ("frame_00012", 12), ("last", None), ("7_frame_1", None)],
    )
    def test_video_and_frame(self, frame, number):
        message = parse({"video_id": "v", "frame_id": frame, "timestamp": TIME})
        assert (message.source, message.image_path, message.frame_number) == ("v", f"v/{frame}.jpg", number)
        assert message.attributes == {"video_id": "v", "frame_id": frame}

    def test_the_names_of_video_and_frame_are_kept_next_to_a_source_and_a_path(self):
        named = {"video_id": 7, "frame_id": "frame_00003"}
        message = parse({"source": "gate", "image_path": "a/b.jpg", **named})
        assert (message.source, message.frame_number, message.attributes) == ("gate", None, named)

    def test_a_video_form_keeps_an_announced_frame_number_and_fills_the_configured_path_once(self):
        value = json.dumps({"video_id": "{frame_id}", "frame_id": "2", "frame_number": 5}).encode()
        message = parse_message(
            record(value), MessageForm(image_path=FieldTemplate("videos/{video_id}/{frame_id}.png"))
        )
        assert (message.image_path, message.frame_number) == ("videos/{frame_id}/2.png", 5)

    @pytest.mark.parametrize("image", [b"\xff\xd8\xff\xe0 jpeg", b"\x89PNG\r\n\x1a\n png", b"BM bmp", b"II*\x00 tiff"])
    def test_an_encoded_image_is_known_by_its_first_bytes(self, image):
        message = parse_message(record(image, key=b"cam-1"))
        assert (message.image, message.image_path, message.source) == (image, None, "cam-1")
        assert (message.timestamp, message.has_own_timestamp) == (NOON, False)

    def test_the_session_of_an_encoded_image_comes_from_its_header(self):
        assert parse_message(record(b"\xff\xd8\xff", source=b"gate", session=b"b3f0")).attributes == {"session": "b3f0"}
        assert parse_message(record(b"\xff\xd8\xff", source=b"gate")).attributes == {}

    def test_an_encoded_image_is_known_by_its_content_type_and_described_by_headers(self):
        headers = {"Content__Type": b"image/webp", "source": b"cam-2", "timestamp": b"2026-01-09T11:00:00Z"}
        message = parse_message(record(b"{anything", **headers))
        assert (message.source, message.timestamp.hour, message.has_own_timestamp) == ("cam-2", 11, True)

    def test_fields_outside_the_contract_become_attributes(self):
        message = parse({"image_path": "a/b", "lens": "wide", "attributes": {"gps": [1, 2]}})
        assert message.attributes == {"lens": "wide", "gps": [1, 2]}

    def test_a_number_may_name_a_source(self):
        assert parse({"image_path": "a/b", "source": 12}).source == "12"

    @pytest.mark.fault(28)
    @pytest.mark.parametrize("time", [None, ""])
    def test_no_time_is_the_record_s_time_never_the_clock_s(self, time):
        assert parse({"image_path": "a/b", "timestamp": time}).has_own_timestamp is False
        assert "timestamp" in refusal(b'{"image_path": "a/b"}', timestamp_ms=-1)

    @pytest.mark.fault(27)
    @pytest.mark.parametrize("name", ["😀", "new\nline", "quote\"'`", "<script>", "'; DROP TABLE frames; --", "\u2028"])
    def test_strange_names_are_taken_as_they_are(self, name):
        message = parse({"image_path": f"{name}/{name}.jpg", "source": name, "attributes": {name: name}})
        assert (message.source, message.attributes) == (name, {name: name})

    def test_a_replay_says_what_it_replays(self):
        assert parse({"image_path": "a"}, replay_of=b"frames/0/41").replay_of == "frames/0/41"
        assert "replay_of" in refusal(b'{"image_path": "a"}', replay_of=b"\x00")


class TestRefusals:
    @pytest.mark.fault(25)
    @pytest.mark.parametrize(
        ("value", "named"),
        [
            (None, "value: got null"),
            (b"", "value: got an empty value"),
            (b"\xff\xfe{}", "not UTF-8 at position 0"),
            (b"{", "no JSON"),
            (b"[" * 100_000, "no JSON"),
            (b"1" * 10_000, "no JSON"),
            (b"[]", "a JSON list"),
            (b"null", "a JSON NoneType"),
            (b"{}", "image_path: got nothing"),
            (b'{"image_path": NaN}', "NaN"),
            (b'{"image_path": "a", "x": Infinity}', "Infinity"),
            (b'{"image_path": "a", "x": 1e999}', "1e999"),
            (b'{"image_path": ""}', "image_path"),
            (b'{"image_path": 5}', "image_path: got 5"),
            (b'{"image_path": {"a": 1}}', "image_path: got a JSON dict"),
            (b'{"image_path": "a\\u0000b"}', "image_path"),
            (b'{"image_path": "\\ud800"}', "image_path"),
            (b'{"image_path": "' + b"x" * 1025 + b'"}', "image_path"),
            (b'{"image_key": "a"}', "image_path: got nothing"),
            (b'{"image_key": "a", "bucket": 5}', "bucket"),
            (b'{"image_key": "' + b"x" * 1020 + b'", "bucket": "bbb"}', "bucket and image_key"),
            (b'{"video_id": {}, "frame_id": 1}', "video_id"),
            (b'{"video_id": "v", "frame_id": true}', "frame_id"),
            (b'{"video_id": "v", "frame_id": 1.5}', "frame_id"),
            (b'{"image_path": "a", "source": ""}', "source"),
            (b'{"image_path": "a", "source": true}', "source"),
            (b'{"image_path": "a", "source": []}', "source"),
            (b'{"image_path": "a", "timestamp": "yesterday"}', "timestamp"),
            (b'{"image_path": "a", "timestamp": true}', "timestamp"),
            (b'{"image_path": "a", "timestamp": {}}', "timestamp"),
            (b'{"image_path": "a", "timestamp": 1e300}', "timestamp"),
            (b'{"image_path": "a", "frame_number": -1}', "frame_number"),
            (b'{"image_path": "a", "frame_number": 1.5}', "frame_number"),
            (b'{"image_path": "a", "frame_number": true}', "frame_number"),
            (b'{"image_path": "a", "width": "640"}', "width"),
            (b'{"image_path": "a", "height": 9223372036854775808}', "height"),
            (b'{"image_path": "a", "size_bytes": ' + b"9" * 4000 + b"}", "size_bytes"),
            (b'{"image_path": "a", "sha256": "abc"}', "sha256"),
            (b'{"image_path": "a", "attributes": []}', "attributes"),
            (b'{"image_path": "a", "attributes": {"a\\u0000": 1}}', "attributes"),
            (b'{"image_path": "a", "lens": ["\\udfff"]}', "attributes"),
            (b'{"image_path": "a", "lens": ' + b"[" * 40 + b"]" * 40 + b"}", "attributes: got deeper nesting"),
            (b'{"image_path": "a", "timestamp": ' + b"[" * 500 + b"]" * 500 + b"}", "timestamp: got a JSON list"),
        ],
    )
    def test_the_code_is_invalid_message_and_the_field_is_named(self, value, named):
        assert named in refusal(value)

    def test_headers_of_an_image_are_checked_too(self):
        jpeg = b"\xff\xd8\xff"
        assert "header timestamp" in refusal(jpeg, timestamp=b"soon")
        assert "header source" in refusal(jpeg, source=b"a\x00b")
        assert "header source" in refusal(jpeg, source=b"caf\xe9")
        assert "timestamp" in refusal(jpeg, timestamp_ms=-1)

    def test_text_that_only_looks_like_an_escaped_null_is_kept(self):
        assert parse({"image_path": "a", "note": "\\u0000"}).attributes == {"note": "\\u0000"}


messages = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | st.text()
        for name in (
            "source", "image_path", "timestamp", "frame_number", "width", "sha256", "attributes", "bucket",
            "bucket_name", "image_key", "video_id", "frame_id", "anything",
        )
    },
)  # fmt: skip
likely_messages = st.builds(
    lambda message, path: {"image_path": path} | {k: v for k, v in message.items() if k in {"attributes", "anything"}},
    messages,
    st.text(min_size=1),
)
values = (
    st.binary()
    | (st.dictionaries(st.text(), json_values) | messages | likely_messages).map(lambda m: json.dumps(m).encode())
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
)


@given(values, st.none() | st.binary(), st.integers(-1, 2**63 - 1), st.lists(st.tuples(st.text(), st.binary())))
@example(b'{"image_path": ' + b"[" * 900 + b"]" * 900 + b"}", None, 0, [])
@example(b'{"a":' * 900 + b"1" + b"}" * 900, None, 0, [])
def test_arbitrary_records_are_bad_input_or_frames_that_can_be_announced_again(value, key, timestamp_ms, headers):
    try:
        message = parse_message(KafkaRecord("frames", 0, 7, timestamp_ms, key, value, tuple(headers)))
    except BadInputError as error:
        refused = error
    else:
        check_that_it_can_be_announced_again(message, value)
        return
    refused.message.encode()
    assert refused.code is DeadLetterCode.INVALID_MESSAGE


def check_that_it_can_be_announced_again(message: FrameMessage, value: bytes) -> None:
    again = message.to_value()
    if message.image is not None:
        assert again == value
        return
    json.loads(again, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    read = parse_message(KafkaRecord("elsewhere", 1, 8, 0, None, again))
    compared = ("source", "image_path", "timestamp", "frame_number", "width", "sha256", "attributes")
    assert [getattr(read, name) for name in compared] == [getattr(message, name) for name in compared]


def test_a_producer_may_name_its_clock_and_a_region_of_interest():
    region = [[[0, 0], [10, 0], [10, 5.5]]]
    found = parse({"image_path": "a.jpg", "timestamp": TIME, "clock_source": "rtcp", "region_of_interest": region})
    assert found.clock_source is ClockSource.RTCP
    assert found.region_of_interest == (((0.0, 0.0), (10.0, 0.0), (10.0, 5.5)),)
    assert found.attributes == {}
    assert parse_message(record(found.to_value())) == found


@pytest.mark.parametrize(
    "field",
    [
        {"clock_source": "sundial"},
        {"clock_source": 5},
        {"region_of_interest": "left half"},
        {"region_of_interest": [[[0, 0], [1, 1]]]},
        {"region_of_interest": [[[0, 0], [1, 1], [True, 2]]]},
    ],
    ids=["another clock", "a number", "text", "two points", "no number"],
)
def test_a_clock_or_region_outside_the_contract_stays_an_attribute(field):
    found = parse({"image_path": "a.jpg", **field})
    assert (found.clock_source, found.region_of_interest) == (None, ())
    assert found.attributes == field


USUAL = MessageForm()
CLASSIC = MessageForm(timestamp_fields=("timestamp", "upload_timestamp", "backfill_timestamp"))


def read(form: MessageForm = USUAL, *, key: bytes | None = None, topic: str = "frames", **data: Any) -> FrameMessage:
    return parse_message(KafkaRecord(topic, 0, 0, int(NOON.timestamp() * 1000), key, json.dumps(data).encode()), form)


@pytest.mark.parametrize("name", ["upload_timestamp", "backfill_timestamp"])
def test_the_time_is_read_from_the_configured_fields(name):
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
def test_the_error_for_an_invalid_number_names_its_field(value):
    with pytest.raises(BadInputError, match="image_num"):
        read(MessageForm(image_path=FieldTemplate("image_database/{image_num:05d}.jpg")), image_num=value)


def test_the_error_for_a_missing_path_lists_the_expected_fields():
    with pytest.raises(BadInputError, match="or image_num"):
        read(MessageForm(image_path=FieldTemplate("a/{image_num}.jpg")), video_id=1, frame_id=2)


@pytest.mark.parametrize(
    "key",
    [b"2026/gate/0007.jpg", b"0007.jpg", b"s3://captchas/2026/gate/0007.jpg", b"s3a://captchas/2026/gate/0007.jpg"],
)
def test_a_key_that_names_the_image_is_not_the_source(key):
    assert read(key=key, bucket_name="captchas", image_key="2026/gate/0007.jpg").source == "gate"
    assert read(key=b"0007.jpg", bucket_name="captchas", image_key="0007.jpg").source == "captchas"


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
def test_an_unsafe_path_template_is_rejected(template):
    with pytest.raises(ValueError, match=r"expected"):
        check_image_path_template(template)


@pytest.mark.parametrize("place", ["s3://archive", "/app/frame_store", "file:///app/frame_store"])
def test_a_path_template_may_name_a_bucket_or_a_folder(place):
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
def test_the_classic_form_keeps_a_path_that_is_not_below_the_store(path):
    message = FrameMessage("gate", path, datetime(2025, 4, 10, 16, 30, tzinfo=UTC))
    assert json.loads(classic_value(message, store_url="s3://2025-group19"))["image_path"] == path


@given(st.datetimes(timezones=st.just(UTC)), st.text(min_size=1, max_size=50))
@example(datetime(2025, 4, 10, 16, 30, tzinfo=UTC), "a://b")
def test_the_classic_form_is_read_back(time, name):
    message = FrameMessage("gate", f"images/{name.encode('utf-8', 'replace').decode()}", time)
    if "\0" in name:
        return
    found = parse_message(KafkaRecord("t", 0, 0, 0, b"gate", classic_value(message, store_url="s3://b/p")), CLASSIC)
    assert (found.source, found.timestamp) == ("gate", message.timestamp)
    assert found.image_path == f"s3://b/p/{message.image_path}"
