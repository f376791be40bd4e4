"""The columns of the tables are those of the contracts, and their page in the docs is current."""

from pathlib import Path

import duckdb

from imgpipeline.contracts.outcomes import DeadLetter
from imgpipeline.lake.engine import open_engine
from imgpipeline.lake.summaries import SUMMARIES
from imgpipeline.lake.tables import ALL, DEAD_LETTERS, DETECTIONS, FRAMES, tables_page
from imgpipeline_tests.ledger.samples import dead_letter, frame

REPOSITORY = Path(__file__).resolve().parents[2]


def test_frames_has_every_field_of_the_metadata_document_but_the_list_of_detections():
    document = set(frame(0).to_json()) - {"detections"}
    assert set(FRAMES.names) == document | {"day", "source_kafka_topic_id"}


def test_dead_letters_has_every_field_of_a_dead_letter():
    what_became_of_it = {"state", "became"}
    assert set(DEAD_LETTERS.names) == set(DeadLetter.__slots__) | {"topic", "topic_id", "partition"} | what_became_of_it
    assert set(dead_letter(0).to_json()) <= set(DEAD_LETTERS.names)


def test_columns_that_tables_share_mean_and_hold_the_same():
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


def test_every_summary_answers_the_columns_that_are_documented():
    with open_engine() as engine:
        typed = ", ".join(f'"{c.name}" {c.duckdb_type}' for c in DETECTIONS.columns)
        engine.run(f"CREATE TABLE detections ({typed})")
        for summary in SUMMARIES.values():
            answered = engine.run(f"DESCRIBE {summary.sql}")
            assert [(row[0], row[1].replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")) for row in answered] == [
                (c.name, c.duckdb_type) for c in summary.table.columns
            ]


def test_the_page_of_the_docs_is_current():
    assert (REPOSITORY / "docs" / "tables.md").read_text() == tables_page(), (
        "run: python -m imgpipeline.lake.tables > docs/tables.md"
    )
