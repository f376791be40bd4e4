"""CSV rows become frames with one detection, or dead letters that name their lines."""

from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from imgpipeline.compat.imports.meanings import ColumnNames
from imgpipeline.contracts.records import RawRecord
from imgpipeline.daily.build import BuildOptions, build_day
from imgpipeline.daily.objects import TABLES
from imgpipeline.errors import ConfigurationError, LedgerError
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.sessions.session import open_lake
from imgpipeline.ledger.days import days_of_chain
from imgpipeline.ledger.dead_letters import read_raw_record
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline_tests.compat.imports.conftest import DETECTIONS, NOW, import_csv
from imgpipeline_tests.compat.imports.samples import HEADER, csv_lines, frames_of, held, letters_of, write_csv


def test_a_row_is_a_frame_that_says_what_it_does_not_know(folder_settings, tmp_path):
    path = write_csv(tmp_path / "counts.csv", [f"{HEADER},weather", "2026-01-09T12:00:00.5+01:00, car ,0.75,rain"])
    import_csv(folder_settings, path)
    [frame] = frames_of(held(open_store(folder_settings), DETECTIONS))
    assert frame.timestamp == datetime(2026, 1, 9, 11, 0, 0, 500_000, tzinfo=UTC)
    assert (frame.topic, frame.partition, frame.offset, frame.source) == ("import.counts", 0, 0, "counts")
    assert frame.attributes == {"imported_from": "counts.csv:2", "weather": "rain"}
    [found] = frame.detections
    assert (found.label, found.confidence, found.class_id, found.box_xywh) == ("car", 0.75, None, None)
    unknown = (frame.image_width, frame.size_bytes, frame.brightness, frame.processing_timestamp, frame.orientation)
    assert unknown == (None,) * 5
    assert (frame.model_used, frame.source_image_path) == ("", "")


def test_further_columns_are_named_by_options(folder_settings, tmp_path):
    lines = [
        "when,what,sure,cam,image,l,t,w,h",
        "1767960000,car,1,gate,a/b.jpg,1,2,3.5,4",
        "1767960000000,dog,0,gate,7,,,,",
    ]
    names = ColumnNames("when", "what", "sure", "cam", "image", ("l", "t", "w", "h"))
    import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines), names)
    first, second = frames_of(held(open_store(folder_settings), DETECTIONS))
    assert first.timestamp == second.timestamp == datetime(2026, 1, 9, 12, tzinfo=UTC)
    assert (first.source, first.source_image_path, first.frame_number) == ("gate", "a/b.jpg", None)
    assert (second.source, second.source_image_path, second.frame_number) == ("gate", "", 7)
    assert first.detections[0].box_xywh == (1.0, 2.0, 3.5, 4.0)
    assert second.detections[0].box_xywh is None
    assert first.frame_id != second.frame_id


@pytest.mark.parametrize(
    ("row", "code", "message"),
    [
        ("yesterday,car,0.5", "BAD_ROW", "timestamp: got 'yesterday', expected a time"),
        (",car,0.5", "BAD_ROW", "timestamp: got ''"),
        ("2026-01-09T12:00:00Z,,0.5", "BAD_ROW", "label: got ''"),
        ("2026-01-09T12:00:00Z,car,1.5", "BAD_ROW", "confidence: got '1.5', expected a number from 0 to 1."),
        ("2026-01-09T12:00:00Z,car,-0.1", "BAD_ROW", "confidence: got '-0.1'"),
        ("2026-01-09T12:00:00Z,car,nan", "BAD_ROW", "confidence: got 'nan'"),
        ("2026-01-09T12:00:00Z,car", "BAD_ROW", "got 2 fields, expected 3"),
        ("2026-01-09T12:00:00Z,c\0ar,0.5", "BAD_ROW", "null characters"),
        ("1999-12-31T23:59:59Z,car,0.5", "TIMESTAMP_OUT_OF_RANGE", "expected one from 2000-01-01"),
        ("2026-02-02T00:00:00Z,car,0.5", "TIMESTAMP_OUT_OF_RANGE", "got 2026-02-02"),
    ],
    ids=[
        *("no time", "empty time", "empty label", "confidence above 1", "confidence below 0", "confidence nan"),
        *("a field missing", "null character", "before the first day", "in the future"),
    ],
)
def test_a_bad_row_is_a_dead_letter_with_its_line(folder_settings, tmp_path, row, code, message):
    lines = csv_lines(3)
    lines.insert(2, row)
    result = import_csv(folder_settings, write_csv(tmp_path / "counts.csv", lines))
    outcomes = held(open_store(folder_settings), DETECTIONS)
    assert (result.frames, result.dead_letters, result.codes) == (3, 1, {code: 1})
    [letter] = letters_of(outcomes)
    assert letter.offset == 1
    assert letter.code.value == code
    assert letter.message.startswith("counts.csv:3: ")
    assert message in letter.message
    assert read_raw_record(open_store(folder_settings), DETECTIONS, letter) == RawRecord(row.encode())


def test_a_dead_letter_of_an_accepted_day_is_listed_under_it(folder_settings, tmp_path):
    rows = [HEADER, "2026-01-09T12:00:00Z,,0.5", "1999-01-01T00:00:00Z,car,0.5"]
    import_csv(folder_settings, write_csv(tmp_path / "counts.csv", rows))
    letters = letters_of(held(open_store(folder_settings), DETECTIONS))
    assert [letter.day for letter in letters] == [date(2026, 1, 9), None]


def test_times_without_an_offset_are_local_times_of_the_zone(folder_settings, tmp_path):
    """An offset and Unix time win; the same file with another zone is refused, and without one it would be UTC."""
    times = ("2026-01-09T00:10:00", "2026-01-09 00:10:00+02:00", "1767960000", "2026-01-09T00:10:00Z")
    path = write_csv(tmp_path / "counts.csv", [HEADER, *(f"{text},car,0.5" for text in times)])
    indian = folder_settings.model_copy(update={"timezone": "Asia/Kolkata"})
    import_csv(indian, path)
    found = [frame.timestamp.isoformat() for frame in frames_of(held(open_store(indian), DETECTIONS))]
    assert found == ["2026-01-08T18:40:00+00:00", "2026-01-08T22:10:00+00:00", "2026-01-09T12:00:00+00:00",
                     "2026-01-09T00:10:00+00:00"]  # fmt: skip
    assert import_csv(indian, path).already_there == 4
    with pytest.raises(LedgerError, match="time zone"):
        import_csv(folder_settings, path)


def test_a_column_that_is_not_there_is_named_with_those_that_are(folder_settings, tmp_path):
    with pytest.raises(ConfigurationError, match="'detected_label' is missing; the file has 'timestamp', 'label'"):
        import_csv(folder_settings, write_csv(tmp_path / "counts.csv", ["timestamp,label", "1,2"]))
    with pytest.raises(ConfigurationError, match="exists twice"):
        import_csv(folder_settings, write_csv(tmp_path / "counts.csv", [f"{HEADER},confidence", "1,2,3,4"]))


@pytest.mark.medium
def test_label_counts_are_those_of_pandas(folder_settings, tmp_path):
    store = open_store(folder_settings)
    path = write_csv(tmp_path / "counts.csv", csv_lines(4_000))
    import_csv(folder_settings, path)
    days = days_of_chain(store, DETECTIONS)
    assert len(days) > 1
    expected = expected_counts(path)
    before = counted(store, tmp_path / "before")
    for day in days:
        names = (TABLES, *SUMMARIES)
        done = list(build_day(store, folder_settings, day, names, BuildOptions(), clock=lambda: NOW))
        assert [each.error for each in done] == [None] * len(names)
    built = counted(store, tmp_path / "after")
    assert before == expected
    assert built == expected


def expected_counts(path: Path) -> list[tuple[datetime, str, int, float]]:
    rows = pd.read_csv(path)
    rows["hour"] = pd.to_datetime(rows["timestamp"], utc=True).dt.floor("h")
    groups = rows.groupby(["hour", "detected_label"])["confidence"].agg(["count", "mean"]).reset_index()
    return sorted(
        (hour.to_pydatetime(), label, count, round(mean, 6))
        for hour, label, count, mean in groups.itertuples(index=False)
    )


def counted(store: ObjectStore, cache: Path) -> list[tuple[datetime, str, int, float]]:
    with open_lake(store, cache_dir=cache) as lake:
        rows = lake.query("SELECT hour, label, count, mean_confidence FROM label_counts ORDER BY ALL").rows
    return [(hour, label, count, round(mean, 6)) for hour, label, count, mean in rows]
