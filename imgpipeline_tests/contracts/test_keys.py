"""Keys round-trip, sort in the order of their numbers, and never leave their prefix."""

import re
from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imgpipeline.contracts import keys
from imgpipeline.contracts.keys import Bucket, BundleId, ChainId
from imgpipeline.errors import ConfigurationError
from imgpipeline_tests.contracts.strategies import chains, numbers

DAY = date(2026, 1, 9)
CHAIN = ChainId("frames", "tXy-_1", 3)
revisions = st.from_regex(r"\A[0-9a-f]{16}\Z")


def test_keys_have_the_documented_layout():
    assert keys.segment_key(CHAIN, 1_234_567) == (
        "metadata/frames/tXy-_1/00003/000000000000012/00000000000001234567.jsonl.zst"
    )
    assert keys.bucket_key(Bucket(DAY, CHAIN, 1234)) == "metadata_days/2026-01-09/frames/tXy-_1/00003/000000000001234"
    assert keys.bucket_of(DAY, CHAIN, 1_234_567) == Bucket(DAY, CHAIN, 1234)
    bundle = BundleId(CHAIN, 123, "00000000000000aa")
    assert keys.bundle_key(bundle) == "metadata_bundles/frames/tXy-_1/00003/000000000000123.00000000000000aa.bundle"
    assert (bundle.first, bundle.behind) == (1_230_000, 1_240_000)
    assert keys.day_table_key("frames", DAY) == "frames/day=2026-01-09/frames.parquet"
    assert keys.summary_key("label_counts", DAY) == "summaries/label_counts/day=2026-01-09/label_counts.parquet"
    assert keys.image_key("cam 1", DAY, "a.jpg").startswith("images/cam-1~")


@given(chains, numbers)
def test_a_segment_key_is_read_back(chain, start):
    key = keys.segment_key(chain, start)
    assert keys.parse_segment_key(key) == (chain, start)
    assert key.startswith(keys.fan_out_prefix(chain, start) + "/")
    assert keys.fan_out_prefix(chain, start).startswith(keys.chain_prefix(chain) + "/")


@given(st.dates(), chains, st.integers(0, 2**63 // 1000))
def test_a_key_of_the_day_index_is_read_back(day, chain, number):
    bucket = Bucket(day, chain, number)
    assert keys.parse_bucket_key(keys.bucket_key(bucket)) == bucket


@given(chains, numbers, numbers)
def test_keys_sort_as_their_offsets(chain, one, other):
    assert (keys.segment_key(chain, one) < keys.segment_key(chain, other)) == (one < other)


@given(st.text() | st.from_regex(r"metadata(_days)?/[^/]+/[^/]+/[^/]+/\d{5}/\d{15}(/\d{20}\.jsonl\.zst)?"))
@example("metadata/frames/id/00000/000000000000001/00000000000000000005.jsonl.zst")  # in another's folder
@example("metadata/../id/00000/000000000000000/00000000000000000005.jsonl.zst")
@example("metadata/frames/id/0000\u0663/000000000000000/00000000000000000005.jsonl.zst")
def test_only_keys_that_are_built_here_are_parsed(key):
    segment, bucket = keys.parse_segment_key(key), keys.parse_bucket_key(key)
    assert segment is None or keys.segment_key(*segment) == key
    assert bucket is None or keys.bucket_key(bucket) == key
    keys.parse_day(key)


@pytest.mark.parametrize("day", ["2026-02-30", "2026-13-01", "0000-01-01", "\u0662\u0660\u0662\u0666-01-09"])
def test_a_day_that_does_not_exist_is_ignored(day):
    assert keys.parse_bucket_key(f"metadata_days/{day}/frames/id/00000/000000000000001") is None
    assert keys.parse_day(f"frames/day={day}/frames.parquet") is None
    assert keys.parse_day("frames/day=2026-01-09/frames.parquet") == DAY


@pytest.mark.parametrize(
    ("topic", "topic_id", "partition"),
    [("a/b", "id", 0), ("..", "id", 0), ("", "id", 0), ("frames", ".", 0), ("frames", "a\n", 0), ("frames", "id", -1)],
)
def test_a_chain_id_cannot_leave_its_folder(topic, topic_id, partition):
    with pytest.raises(ConfigurationError, match="name no topic partition"):
        ChainId(topic, topic_id, partition)


hostile = st.text() | st.text("./\\-~ \n\x00aé😀", max_size=200)


@given(hostile, hostile)
def test_an_image_key_has_three_safe_parts_for_any_names(source, name):
    prefix, source_part, day, name_part = keys.image_key(source, DAY, name).split("/")
    assert (prefix, day) == ("images", "2026-01-09")
    for part in (source_part, name_part):
        assert re.fullmatch(r"[A-Za-z0-9._~-]{1,100}", part)
        assert part not in {".", ".."}


@given(hostile, hostile)
def test_two_names_never_share_a_part(one, other):
    assert (keys.safe_name(one) == keys.safe_name(other)) == (one == other)


@given(hostile)
def test_a_name_made_safe_never_equals_a_safe_name(name):
    made = keys.safe_name(name)
    assert made == name or "~" in made


def test_plain_names_stay_readable():
    assert keys.safe_name("frame-000001.jpg") == "frame-000001.jpg"
    assert re.fullmatch(r"Stra-e-1~[0-9a-f]{24}\.jpg", keys.safe_name("Straße 1.jpg"))


@given(chains, st.integers(0, 2**63 // 10_000), revisions)
def test_a_bundle_key_is_read_back(chain, number, revision):
    bundle = BundleId(chain, number, revision)
    assert keys.parse_bundle_key(chain, keys.bundle_key(bundle)) == bundle
    assert keys.bundle_key(bundle).startswith(keys.bundle_prefix(chain) + "/")


@given(st.text() | st.from_regex(r"metadata_bundles/frames/tXy-_1/00003/\d{15}\.[0-9a-f]{16}\.bundle.?"))
def test_any_other_key_is_not_a_bundle_key(key):
    bundle = keys.parse_bundle_key(CHAIN, key)
    assert bundle is None or keys.bundle_key(bundle) == key


@given(st.integers(0, 10**12), st.integers(0, 10**12), revisions)
def test_a_listing_from_a_range_has_its_bundles_and_all_later_ones(one, other, revision):
    key = keys.bundle_key(BundleId(CHAIN, one, revision))
    assert (key > keys.bundle_range_key(CHAIN, other)) == (one >= other)


@given(st.text(min_size=1), st.text(min_size=1), numbers)
def test_each_source_has_its_own_plans_and_answers(source, other, number):
    day = date(2026, 1, 9)
    plan, answers = keys.plan_prefix(day, source), f"{keys.answers_prefix(day, source)}/{'0f' * 16}"
    for prefix in (plan, answers):
        key = keys.numbered_key(prefix, number)
        assert (keys.parse_number(key), keys.parse_day(key)) == (number, day)
        assert re.fullmatch(r"[A-Za-z0-9._=~/-]+", key)
    assert (keys.plan_prefix(day, other) == plan) == (other == source)


def test_the_mark_of_a_day_is_no_entry_of_a_numbered_log():
    key = keys.accuracy_changed_key(date(2026, 1, 9))
    assert (keys.parse_number(key), keys.parse_day(key)) == (None, date(2026, 1, 9))
