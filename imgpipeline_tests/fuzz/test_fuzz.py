"""Hostile records and images end in the outcome that is right: some hundreds here, many more by `make fuzz`."""

from itertools import islice

import pytest

from imgpipeline_tests.fuzz.border import (
    MOST_GROWTH_BYTES,
    MemoryPeak,
    decode_images,
    hostile_settings,
    work_on_records,
)
from imgpipeline_tests.fuzz.cases import Tally
from imgpipeline_tests.fuzz.images import hostile_images
from imgpipeline_tests.fuzz.lane import follow_hostile_records
from imgpipeline_tests.fuzz.messages import hostile_records

SEED = 7


def in_silence(_: int) -> None:
    """Tells nobody how far it is."""


def check_nothing_is_wrong(tally: Tally, count: int) -> None:
    assert tally.violations == []
    assert sum(tally.outcomes.values()) == count


@pytest.mark.medium
@pytest.mark.fault(20, 21, 22, 23, 24, 25, 26, 27, 28)
def test_hostile_records_become_frames_or_the_right_dead_letter(tmp_path):
    tally = work_on_records(hostile_records(SEED, 600), hostile_settings(f"file://{tmp_path}"), in_silence)
    check_nothing_is_wrong(tally, 600)
    assert set(tally.by_outcome()) == {
        *("FRAME", "INVALID_MESSAGE", "PATH_NOT_ALLOWED", "TIMESTAMP_OUT_OF_RANGE", "TOO_LARGE", "OBJECT_NOT_FOUND"),
        *("EMPTY_OBJECT", "DECODE_FAILED", "IMAGE_TOO_LARGE", "HASH_MISMATCH"),
    }


@pytest.mark.medium
@pytest.mark.fault(20, 21, 22)
def test_damaged_images_are_pictures_or_refused_with_the_right_code():
    with MemoryPeak() as memory:
        tally = decode_images(hostile_images(SEED, 500), in_silence)
    check_nothing_is_wrong(tally, 500)
    assert memory.grown_bytes < MOST_GROWTH_BYTES


@pytest.mark.fault(20, 21, 22, 23, 24, 25, 26, 27, 28)
def test_hostile_records_become_the_same_with_a_real_s3_store(bucket):
    settings = hostile_settings(
        f"{bucket.url}/fuzz",
        s3_endpoint=bucket.endpoint,
        s3_access_key_id=bucket.access_key_id,
        s3_secret_access_key=bucket.secret_access_key,
    )
    check_nothing_is_wrong(work_on_records(hostile_records(SEED, 80), settings, in_silence), 80)


@pytest.mark.slow
@pytest.mark.fault(20, 21, 22, 23, 24, 25, 26, 27, 28)
def test_hostile_records_through_real_kafka_leave_a_whole_ledger(kafka, topic, tmp_path):
    records = list(islice(hostile_records(SEED, 3000), 3000))
    tally = follow_hostile_records(records, kafka, topic, tmp_path)
    check_nothing_is_wrong(tally, sum(record.has_time for record in records))


@pytest.mark.slow
@pytest.mark.fault(20, 21, 22, 23, 24, 25, 26, 27, 28)
def test_ten_thousand_records_and_a_thousand_images_do_not_fill_the_memory(tmp_path):
    with MemoryPeak() as memory:
        records = work_on_records(hostile_records(8, 10_000), hostile_settings(f"file://{tmp_path}"), in_silence)
        images = decode_images(hostile_images(8, 1000), in_silence)
    check_nothing_is_wrong(records, 10_000)
    check_nothing_is_wrong(images, 1000)
    assert memory.grown_bytes < MOST_GROWTH_BYTES


def test_a_seed_gives_the_same_again():
    assert list(hostile_records(3, 15)) == list(hostile_records(3, 15))
    assert list(hostile_images(3, 40)) == list(hostile_images(3, 40))


def test_a_wrong_outcome_is_a_violation():
    tally = Tally()
    tally.add("good", "DECODE_FAILED", frozenset({"FRAME"}), b"{}")
    assert len(tally.violations) == 1
