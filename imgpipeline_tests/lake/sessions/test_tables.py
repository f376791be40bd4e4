"""The histogram views and macros of a query session."""

import math
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from importlib import resources

import duckdb
import pytest

from imgpipeline.contracts.outcomes import Frame
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.tables import HISTOGRAM_VIEWS
from imgpipeline.lake.sessions import session as sessions
from imgpipeline.lake.sessions.tables import MACROS
from imgpipeline.lake.storage.engine import read_sql
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.faults.invariant import unpack
from imgpipeline_tests.lake.busy_day import BusyDay
from imgpipeline_tests.lake.samples import chosen_frames, gated, seen
from imgpipeline_tests.ledger.samples import DAY, NOON, append, dead_letter, frame, write_chain

NEXT = DAY + timedelta(days=1)
SIZES = (0, 1, 2, 3, 4, 1023, 1024, 4096, 2**40 + 1, 2**62)
DELAYS_S = (-5.0, 0.0, 0.000001, 0.3, 0.5, 0.999999, 1.0, 1.5, 7.9, 8.0)


def varied(offset: int) -> Frame:
    """Return a frame that differs from its neighbours in everything that is binned."""
    n = offset % 10
    day, source = (DAY, NEXT)[offset % 2], ("gate", "it's a yard", "ü")[offset % 3]
    time = frame(offset, day).timestamp + timedelta(hours=offset % 4)
    return replace(
        seen(offset, day=day),
        timestamp=time,
        source=source,
        processing_timestamp=time + timedelta(seconds=DELAYS_S[n]),
        size_bytes=SIZES[n],
        image_width=640 + n // 3,
        image_height=480,
        brightness=25.5 * n,
        sharpness=[0.0, 0.99, 1.0, 1.01, 2.0, 3.99, 4.0, 1000.0, 1e6, 2.0**53][n],
    )


@pytest.fixture
def filled(store: ObjectStore) -> ObjectStore:
    """Two days with frames in tables, and later ones that no table has yet."""
    made = write_chain(store, [varied(n) for n in range(30)], [gated(30), dead_letter(31)])
    rebuild_day(store, DAY, now=NOON)
    append(made, [*(varied(n) for n in range(32, 60)), seen(60, size_bytes=None, brightness=None)])
    return store


def power_of_two(value: float) -> int:
    return 0 if value < 1 else 1 << (int(value).bit_length() - 1)


def latency_bin(one: Frame) -> tuple[float, float]:
    taken_us = (one.processing_timestamp - one.timestamp) // timedelta(microseconds=1)
    low = 2.0 ** (math.frexp(taken_us / 1e6)[1] - 1) if taken_us > 0 else 0.0
    return low, 2 * low or 1e-6


def size_bin(one: Frame) -> tuple[int, int] | None:
    if one.size_bytes is None:
        return None
    low = power_of_two(one.size_bytes)
    return low, min(2 * low, 2**63 - 1) or 1


def brightness_bin(one: Frame) -> tuple[int, int] | None:
    return None if one.brightness is None else (int(one.brightness // 16) * 16, int(one.brightness // 16) * 16 + 16)


def sharpness_bin(one: Frame) -> tuple[int, int]:
    low = power_of_two(one.sharpness or 0)
    return low, 2 * low or 1


@pytest.mark.medium
@pytest.mark.parametrize(
    ("view", "bin_of"),
    [
        pytest.param("frame_sizes", size_bin, id="sizes"),
        pytest.param("frame_dimensions", lambda one: (one.image_width, one.image_height), id="dimensions"),
        pytest.param("frame_brightness", brightness_bin, id="brightness"),
        pytest.param("frame_sharpness", sharpness_bin, id="sharpness"),
        pytest.param("frame_latency", latency_bin, id="latency"),
    ],
)
def test_each_frame_is_counted_once_in_its_bin(filled, lake, view, bin_of):
    expected = Counter(
        (one.timestamp.date(), one.timestamp.replace(minute=0, second=0, microsecond=0), one.source, *found)
        for day in (DAY, NEXT)
        for one in chosen_frames(filled, day).values()
        if (found := bin_of(one)) is not None
    )
    with lake(filled) as session:
        rows = session.query(f"SELECT * FROM {view}").rows  # noqa: S608 - own names
    assert {row[:-1]: row[-1] for row in rows} == expected
    assert len(rows) == len(expected)


@pytest.mark.medium
def test_hours_have_the_numbers_of_frame_stats_without_maps_and_lists(filled, lake):
    with lake(filled) as session:
        hours = session.query("SELECT * FROM frame_hours ORDER BY ALL NULLS LAST")
        columns = ", ".join(hours.columns)
        assert hours.rows == session.query(f"SELECT {columns} FROM frame_stats ORDER BY ALL NULLS LAST").rows  # noqa: S608 - own names
        kinds = {row[1] for row in session.query("DESCRIBE frame_hours").rows}
    assert kinds == {"DATE", "TIMESTAMP WITH TIME ZONE", "VARCHAR", "BIGINT", "DOUBLE"}
    assert sum(row[hours.columns.index("frames")] for row in hours.rows) == 60


@pytest.mark.medium
def test_every_number_of_frames_is_traced(memory, lake):
    """With segments newer than the tables; each frame must be in the named segment."""
    day = BusyDay(memory)
    day.write(segments=2)
    rebuild_day(memory, DAY, now=NOON)
    day.write(segments=1)
    numbers = (
        "SELECT hour(hour), source, frames, processed, gated, size_bytes FROM frame_stats WHERE frames > 0 AND day = "
    )
    columns = "frame_id, status, size_bytes, source_kafka_offset, segment, writer_id"
    with lake(memory) as session:
        asked = session.query(f"{numbers} DATE '{DAY}'").rows
        for hour, source, *expected in asked:
            sql = f"SELECT {columns} FROM explain_frame_stats(DATE '{DAY}', {hour}, '{source}')"  # noqa: S608 - own names
            rows = session.query(sql).rows
            statuses = [row[1] for row in rows]
            counts = [len(rows), statuses.count("processed"), statuses.count("gated"), sum(row[2] for row in rows)]
            assert counts == expected
            for frame_id, _, _, offset, segment, writer_id in rows:
                header, *lines = unpack(memory.get(segment))
                documents = [line["frame"] for line in lines if "frame" in line]
                assert header["writer_id"] == writer_id
                assert frame_id in {d["frame_id"] for d in documents if d["source_kafka_offset"] == offset}
        of_day = session.query(f"SELECT count(*) FROM explain_frame_stats(DATE '{DAY}', NULL, NULL)").rows  # noqa: S608 - a day
    assert of_day == [(sum(row[2] for row in asked),)]


def test_only_a_macro_reads_the_ledger(memory, lake, monkeypatch):
    write_chain(memory, [seen(0)])
    rebuild_day(memory, DAY, now=NOON)
    filled: list[str] = []
    fill = sessions.fill_ledger_tables

    def noticed(*arguments: object) -> None:
        filled.append("")
        fill(*arguments)

    monkeypatch.setattr(sessions, "fill_ledger_tables", noticed)
    with lake(memory) as session:
        session.query("SELECT * FROM frames")
        session.query("EXPLAIN SELECT * FROM label_counts")
        assert filled == []
        assert len(session.query(f"SELECT * FROM Explain_Label_Totals(DATE '{DAY}', 'car')").rows) == 1  # noqa: S608 - a day
        assert filled == [""]


def test_every_macro_and_histogram_is_one_self_contained_file():
    files = {item.name for item in resources.files("imgpipeline.lake.sessions").joinpath("sql").iterdir()}
    names = (*MACROS, *(table.name for table in HISTOGRAM_VIEWS))
    assert {f"{name}.sql" for name in names} == {name for name in files if name.endswith(".sql")}
    for name in names:
        sql = read_sql("imgpipeline.lake.sessions", name)
        assert sql.startswith("--")
        assert len(duckdb.extract_statements(sql)) == 1
