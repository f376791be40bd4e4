"""Warnings about days with correct tables, compared with numbers made by hand."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imgpipeline.contracts.keys import day_table_key, summary_key
from imgpipeline.errors import PermanentError
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.day_warnings import (
    judge_darkness,
    judge_dead_letters,
    judge_label_drop,
    judge_stored_rows,
)
from imgpipeline.lake.storage.engine import open_engine
from imgpipeline.lake.storage.manifest import Manifest, write_parquet
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.samples import day_outcomes, seen
from imgpipeline_tests.ledger.samples import DAY, NOON, dead_letter, write_chain

LIMITS = Settings()
TOMORROW = NOON + timedelta(days=1)


@pytest.mark.parametrize(
    ("frames", "letters", "ok"), [(0, 0, True), (95, 5, True), (94, 6, False), (0, 1, False), (10, 0, True)]
)
def test_more_dead_letters_than_one_in_twenty_are_a_warning(frames, letters, ok):
    verdict = judge_dead_letters(frames, letters, LIMITS)
    assert verdict.ok is ok
    assert verdict.said.startswith(f"{letters} of {frames + letters} record")


@pytest.mark.parametrize(("dark", "ok"), [(0, True), (8, True), (9, False), (10, False)])
def test_more_dark_frames_than_four_in_five_are_a_warning(memory, dark, ok):
    """Imported frames without a brightness do not count."""
    measured = [replace(seen(n), brightness=15.9 if n < dark else 16.0, source=f"cam-{n % 3}") for n in range(10)]
    write_chain(memory, [*measured, replace(seen(10), brightness=None)])
    rebuild_day(memory, DAY, now=NOON)
    build_summary(memory, "frame_stats", DAY, settings=LIMITS, now=NOON)
    verdict = judge_darkness(memory, DAY, LIMITS)
    assert verdict.ok is ok
    assert verdict.said.startswith(f"{dark} of 10 frames had a brightness below 16 of 255")


def test_a_day_without_frames_is_not_dark(memory):
    write_chain(memory, [dead_letter(0)])
    rebuild_day(memory, DAY, now=NOON)
    build_summary(memory, "frame_stats", DAY, settings=LIMITS, now=NOON)
    assert judge_darkness(memory, DAY, LIMITS).ok


def test_tables_with_other_rows_than_their_build_read_are_reported(memory):
    write_chain(memory, day_outcomes(0, 6), [dead_letter(6)])
    rebuild_day(memory, DAY, now=NOON)
    verdict = judge_stored_rows(memory, DAY, now=TOMORROW)
    assert verdict.ok, verdict.said
    assert verdict.said == "6 frames and 7 detections, in the ledger as in the tables."
    key = day_table_key("frames", DAY)
    table = pq.ParquetFile(pa.BufferReader(memory.get(key))).read()
    sink = pa.BufferOutputStream()
    pq.write_table(table.slice(1), sink)
    memory.put(key, sink.getvalue().to_pybytes())
    verdict = judge_stored_rows(memory, DAY, now=TOMORROW)
    assert not verdict.ok
    assert f"{key} has other rows" in verdict.said
    assert judge_stored_rows(memory, DAY, now=NOON).ok, "today is looked at when it is over"


def put_totals(store: ObjectStore, day: date, **counts: int) -> None:
    rows = " UNION ALL ".join(f"SELECT '{label}' AS label, {count} AS count" for label, count in counts.items())
    manifest = Manifest(table="label_totals", day=day, made_by="test", built_at=NOON)
    with open_engine(memory=None) as engine:
        data, _ = write_parquet(engine, rows, manifest, object_bytes=2**30)
        store.put(summary_key("label_totals", day), bytes(data))


def judge(store: ObjectStore, cars: Sequence[int | None], **others: int):
    """Judge the last of some days by their counts of cars; None is a day that is not stored."""
    days = [DAY + timedelta(days=n) for n in range(len(cars))]
    for day, count in zip(days, cars, strict=True):
        if count is not None:
            put_totals(store, day, **({"car": count} if count else {}), **others)
    after = datetime.combine(days[-1], datetime.min.time(), UTC) + timedelta(days=1)
    return judge_label_drop(store, days[-1], LIMITS, now=after)


@pytest.mark.parametrize(
    ("cars", "ok"),
    [
        ([100, 100, 100, 25], True),
        ([100, 100, 100, 24], False),
        ([100, 100, 100, 0], False),
        ([100, None, 100, None, 100, 24], False),
        ([100, 100, 0], True),
        ([10, 10, 10, 0], True),
        ([60, 0, 0, 0], False),
        ([1000, *[20] * 7, 6], True),
    ],
    ids=["a quarter", "less", "vanished", "days that are not stored are left out", "too few days", "rare anyhow",
         "absent days count as zero", "only the last seven days count"],
)  # fmt: skip
def test_a_label_that_fell_below_a_quarter_of_its_mean_is_a_warning(memory, cars, ok):
    verdict = judge(memory, cars, dog=50)
    assert verdict.ok is ok
    assert ("car: " in verdict.said) is not ok
    assert "dog" not in verdict.said


def test_a_day_that_is_not_over_is_not_compared_with_whole_days(memory):
    for n in range(4):
        put_totals(memory, DAY - timedelta(days=n + 1), car=1000)
    put_totals(memory, DAY, car=1)
    assert judge_label_drop(memory, DAY, LIMITS, now=NOON).ok
    assert not judge_label_drop(memory, DAY, LIMITS, now=TOMORROW).ok


def test_a_summary_that_is_not_a_parquet_file_is_reported(memory):
    memory.put(summary_key("frame_stats", DAY), b"rotten")
    with pytest.raises(PermanentError, match="summaries/frame_stats"):
        judge_darkness(memory, DAY, LIMITS)
