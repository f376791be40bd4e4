"""Stored day tables with newer outcomes laid over them.

A query session and an incremental build both start from Parquet files and add the outcomes of later segments. Rows with
one `frame_id` in a day compete by the same rule as in a full build, so the result has the rows of a full build up to
the greater ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imgpipeline.lake.build.ledger_rows import ROWS, keep_unique
from imgpipeline.lake.schema import (
    DAY_TABLES,
    DETECTIONS,
    FRAMES,
    NOTICES,
    STORED_DEAD_LETTERS,
    WEAK_DETECTIONS,
    Table,
)
from imgpipeline.lake.storage.engine import Engine, identifier, quoted
from imgpipeline.lake.storage.older_versions import columns_of

WORKING = "working"
"""Schema of the tables that users do not see in SHOW TABLES."""
_SAME_FRAME = "stored.day = behind.day AND stored.frame_id = behind.frame_id"
_SAME_OUTCOME = " AND ".join(
    f"stored.{name} = found.{name}"
    for name in ("day", "frame_id", *(name for name in FRAMES.names if name.startswith("source_kafka_")))
)
_OFFSET = ("topic", "topic_id", "partition", "kafka_offset")
_SAME_OFFSET = " AND ".join(f'stored."{name}" = behind."{name}"' for name in _OFFSET)
_BY_OFFSET = (STORED_DEAD_LETTERS, NOTICES)
"""Tables in which each offset is one row."""


def create_stored(engine: Engine, table: Table, versions: Mapping[Path, int]) -> None:
    """Creates the view `stored_{table}` over files below `day=…` folders; without files, an empty table.

    Args:
        engine: DuckDB.
        table: The day table.
        versions: Version of the columns of each file; those of `READABLE_VERSIONS`.
    """
    parts = []
    for version in sorted(set(versions.values())):
        files = ", ".join(quoted(str(path)) for path, of in versions.items() if of == version)
        rows = f"read_parquet([{files}], hive_partitioning = true, hive_types = {{day: DATE}})"
        parts.append(f"SELECT {columns_of(table, version, 'file')} FROM {rows} AS file")  # noqa: S608 - own names
    if parts:
        engine.run(f"CREATE VIEW stored_{table.name} AS {' UNION ALL '.join(parts)}")
    else:
        typed = ", ".join(f"{identifier(column.name)} {column.duckdb_type}" for column in table.columns)
        engine.run(f"CREATE TABLE stored_{table.name} ({typed})")


@dataclass(frozen=True, slots=True)
class Overlay:
    """What newer segments bring to stored tables."""

    frames: int
    """Different frames that the newer segments name."""
    met: int
    """How many of those are stored already, so that the two compete."""

    def rows(self, table: Table) -> str:
        """Returns the query for a day table as it is with the newer outcomes."""
        newer = f"UNION ALL SELECT * FROM {WORKING}.{table.name}_behind"  # noqa: S608 - own names
        stored = f"SELECT {_columns(table)} FROM {WORKING}.stored_{table.name} AS stored"  # noqa: S608 - own names
        if table in _BY_OFFSET:
            return f"{stored} ANTI JOIN {WORKING}.{table.name}_behind AS behind ON {_SAME_OFFSET} {newer}"
        # A build puts `weak_detections` first, so it may reach further than the frames.
        if self.met or (self.frames and table is WEAK_DETECTIONS):
            return f"{stored} ANTI JOIN {WORKING}.behind AS behind ON {_SAME_FRAME} {newer}"
        return f"{stored} {newer}" if self.frames else stored


def lay_over(engine: Engine) -> Overlay:
    """Decides between newer outcomes and stored rows of the same frames.

    Reads `found`, `buried`, `noticed` and `weakened` (filled by `load_outcomes`) and the views `stored_…`. Creates
    `behind` (the frames that newer segments name) and, for each day table, `{table}_behind` with the rows that replace
    or extend the stored ones.
    """
    engine.run("CREATE TABLE behind AS SELECT DISTINCT day, frame_id FROM found")
    frames, newer = engine.value("SELECT count(*) FROM behind"), engine.value("SELECT count(*) FROM found")
    met = 0
    if frames:
        engine.run(
            f"INSERT INTO found SELECT {_columns(FRAMES)}, NULL FROM stored_frames AS stored SEMI JOIN behind "  # noqa: S608 - own names
            f"ON {_SAME_FRAME} WHERE stored.day IN (SELECT day FROM behind)"
        )
        met = engine.value("SELECT count(*) FROM found") - newer
        keep_unique(engine)
    for table in (*DAY_TABLES, WEAK_DETECTIONS):
        engine.run(f"CREATE TABLE {table.name}_behind AS {ROWS[table.name]}")
    for table in (DETECTIONS, WEAK_DETECTIONS) if met else ():
        kept = f"SELECT {_columns(table)} FROM stored_{table.name} AS stored"  # noqa: S608 - own names
        chosen = "SEMI JOIN (SELECT * FROM found WHERE detections IS NULL) AS found"
        engine.run(f"INSERT INTO {table.name}_behind {kept} {chosen} ON {_SAME_OUTCOME}")
    return Overlay(frames, met)


def _columns(table: Table) -> str:
    return ", ".join(f"stored.{identifier(name)}" for name in table.names)
