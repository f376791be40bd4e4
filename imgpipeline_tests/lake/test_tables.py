"""The tables have the columns of the contracts, and docs/tables.md is current."""

from dataclasses import fields
from pathlib import Path

import duckdb
import pytest

from imgpipeline.contracts.notices import Account, Notice
from imgpipeline.contracts.outcomes import DeadLetter, Frame
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summaries import SUMMARIES
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema import ALL
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON, REDETECTED_FRAMES, REDETECTIONS
from imgpipeline.lake.schema.tables import (
    ABOUT,
    ABOUT_CHAINS,
    DAY_TABLES,
    DEAD_LETTERS,
    DETECTIONS,
    FRAME_STATS,
    FRAMES,
    HISTOGRAM_VIEWS,
    NOTICES,
    STORED_DEAD_LETTERS,
    SUMMARY_TABLES,
    Table,
)
from imgpipeline.lake.sessions.tables import histogram_sql
from imgpipeline.lake.storage.engine import Engine, all_rows, open_engine
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.samples import day_outcomes
from imgpipeline_tests.ledger.samples import DAY, NOON, dead_letter, frame, write_chain
from imgpipeline_tests.tables_page import PAGE, tables_page

REPOSITORY = Path(__file__).resolve().parents[2]


def test_frames_has_every_field_of_the_metadata_document_but_the_list_of_detections():
    document = set(frame(0).to_json()) - {"detections"}
    later = {"detectors", "gate_measurements", "clock_source", "region_of_interest", "sha256"}
    assert later <= {field.name for field in fields(Frame)}
    assert set(FRAMES.names) == document | later | {"day", "source_kafka_topic_id"}


def test_dead_letters_has_every_field_of_a_dead_letter():
    what_became_of_it = {"state", "became"}
    of_letter = {"kafka_offset" if name == "offset" else name for name in DeadLetter.__slots__} - {"raw"}
    assert set(DEAD_LETTERS.names) == of_letter | {"topic", "topic_id", "partition"} | what_became_of_it


def test_notices_has_every_field_of_a_notice_and_of_its_account():
    of_notice = {"kafka_offset" if name == "offset" else name for name in Notice.__slots__} - {"account"}
    assert set(NOTICES.names) == of_notice | set(Account.__slots__) | {"day", "topic", "topic_id", "partition"}


def test_no_column_needs_quotes_in_sql():
    with duckdb.connect() as connection:
        reserved = {
            name
            for (name,) in connection.execute(
                "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
            ).fetchall()
        }
        assert {"end", "offset"} <= reserved
        others = (STORED_DEAD_LETTERS, ABOUT, ABOUT_CHAINS, REDETECTED_FRAMES, REDETECTIONS, MODEL_COMPARISON)
        for table in (*ALL, *others):
            assert reserved.isdisjoint(table.names), table.name
            typed = ", ".join(f"{column.name} {column.duckdb_type}" for column in table.columns)
            connection.execute(f"CREATE OR REPLACE TABLE unquoted ({typed})")
            for name in table.names:
                grouped = f"SELECT {name}, t.{name}, count(*) AS n FROM unquoted AS t WHERE {name} IS NOT NULL"  # noqa: S608 - own names
                connection.execute(f"{grouped} GROUP BY {name} ORDER BY {name}")


def test_columns_that_tables_share_mean_the_same():
    types = {c.name: c.duckdb_type for c in FRAMES.columns}
    shared = [c for c in DETECTIONS.columns if c.name in types]
    assert len(shared) > 10
    assert all(types[c.name] == c.duckdb_type for c in shared)


def test_every_column_has_a_type_that_duckdb_knows_and_a_meaning():
    with duckdb.connect() as connection:
        for table in ALL:
            assert len(set(table.names)) == len(table.names)
            for column in table.columns:
                connection.execute(f"SELECT CAST(NULL AS {column.duckdb_type})")
                assert column.meaning.endswith(".")


def test_every_summary_returns_the_documented_columns():
    with open_engine(memory=None) as engine:
        for table in DAY_TABLES:
            typed = ", ".join(f'"{c.name}" {c.duckdb_type}' for c in table.columns)
            engine.run(f"CREATE TABLE {table.name} ({typed})")
        for summary in SUMMARIES.values():
            engine.run(f"CREATE VIEW {summary.name} AS {summary.sql}")
            assert described(engine, summary.sql) == documented(summary.table)


def test_every_histogram_view_returns_the_documented_columns():
    with open_engine(memory=None) as engine:
        typed = ", ".join(f'"{c.name}" {c.duckdb_type}' for c in FRAME_STATS.columns)
        engine.run(f"CREATE TABLE frame_stats ({typed})")
        for table in HISTOGRAM_VIEWS:
            assert described(engine, histogram_sql(table.name)) == documented(table)
            assert all(made in FRAME_STATS.names for c in table.columns for _, made in [c.made_of[0].split(".")])


def described(engine: Engine, query: str) -> list[tuple[str, str]]:
    found = engine.run(f"DESCRIBE {query}")
    return [(row[0], row[1].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")) for row in found]


def documented(table: Table) -> list[tuple[str, str]]:
    return [(column.name, column.duckdb_type) for column in table.columns]


@pytest.mark.medium
def test_every_stored_object_has_the_documented_columns(store):
    write_chain(store, day_outcomes(0, 4), [dead_letter(4)])
    rebuild_day(store, DAY, now=NOON)
    for name in SUMMARIES:
        build_summary(store, name, DAY, settings=Settings(), now=NOON)
    with open_engine(memory=None) as engine:
        for table in (*DAY_TABLES, *SUMMARY_TABLES):
            path = engine.folder / "object.parquet"
            path.write_bytes(store.get(stored_key(table.name, DAY)))
            expected = [column for column in documented(table) if column[0] != "day"]
            assert described(engine, all_rows(path)) == expected, table.name


def test_a_column_is_derived_from_existing_columns_of_its_inputs():
    stored = {table.name: set(table.names) for table in (*DAY_TABLES, *SUMMARY_TABLES)}
    for summary in SUMMARIES.values():
        for column in summary.table.columns:
            assert column.name == "day" or column.made_of, f"{summary.name}.{column.name}"
            for source in column.made_of:
                table, _, name = source.partition(".")
                assert name in stored[table]
                assert table in summary.inputs


def test_the_page_of_the_docs_is_current():
    page = PAGE.read_text(encoding="utf-8")
    assert page == tables_page(page), "run: python -m imgpipeline_tests.tables_page"
