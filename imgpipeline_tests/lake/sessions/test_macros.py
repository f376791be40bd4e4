"""SQL follows numbers back too, and reads the ledger for it only when it is asked to."""

from importlib import resources

import duckdb
import pytest

from imgpipeline.lake.build.day_tables import rebuild_day
from imgpipeline.lake.sessions import session as sessions
from imgpipeline.lake.sessions.macros import MACROS, macro_sql
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.faults.invariant import unpack
from imgpipeline_tests.lake.busy_day import BusyDay
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, NOON, write_chain


@pytest.mark.medium
def test_every_number_of_frames_is_followed_back(memory: ObjectStore, lake):
    """With segments behind the tables; the frame is looked for in the segment that is named."""
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


def test_the_ledger_is_read_for_a_macro_and_for_nothing_else(
    memory: ObjectStore, lake, monkeypatch: pytest.MonkeyPatch
):
    write_chain(memory, [seen(0)])
    rebuild_day(memory, DAY, now=NOON)
    filled: list[str] = []
    fill = sessions.fill_ledger_tables

    def noticed(*arguments: object) -> None:
        filled.append("")
        fill(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(sessions, "fill_ledger_tables", noticed)
    with lake(memory) as session:
        session.query("SELECT * FROM frames")
        session.query("EXPLAIN SELECT * FROM label_counts")
        assert filled == []
        assert len(session.query(f"SELECT * FROM Explain_Label_Totals(DATE '{DAY}', 'car')").rows) == 1  # noqa: S608 - a day
        assert filled == [""]


def test_every_macro_is_one_file_that_stands_alone():
    files = {item.name for item in resources.files("imgpipeline.lake.sessions").joinpath("macros_sql").iterdir()}
    assert {f"{name}.sql" for name in MACROS} == {name for name in files if name.endswith(".sql")}
    for name in MACROS:
        assert macro_sql(name).startswith("--")
        assert len(duckdb.extract_statements(macro_sql(name))) == 1
