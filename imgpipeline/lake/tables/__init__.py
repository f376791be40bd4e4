"""The columns of every table in the lake: names, types, units, meanings.

Owns the one list that schemas, queries and docs/tables.md are made of (`python -m imgpipeline.lake.tables`). How tables
are filled belongs to the modules beside this package.
"""

from imgpipeline.lake.tables.columns import READABLE_VERSIONS, SCHEMA_VERSION, Column, Table
from imgpipeline.lake.tables.day_tables import DAY_TABLES, DETECTIONS, FRAMES, NOTICES, STORED_DEAD_LETTERS
from imgpipeline.lake.tables.ledger_tables import DEAD_LETTERS, SEGMENTS
from imgpipeline.lake.tables.long_views import LONG_VIEWS
from imgpipeline.lake.tables.page import tables_page
from imgpipeline.lake.tables.summaries import (
    FRAME_STATS,
    LABEL_COUNTS,
    LABEL_TIMESTAMPS,
    LABEL_TOTALS,
    SOURCE_ACTIVITY,
    SUMMARY_TABLES,
)

__all__ = [
    "ALL",
    "DAY_TABLES",
    "DEAD_LETTERS",
    "DETECTIONS",
    "FRAMES",
    "FRAME_STATS",
    "LABEL_COUNTS",
    "LABEL_TIMESTAMPS",
    "LABEL_TOTALS",
    "LONG_VIEWS",
    "NOTICES",
    "READABLE_VERSIONS",
    "SCHEMA_VERSION",
    "SEGMENTS",
    "SOURCE_ACTIVITY",
    "STORED_DEAD_LETTERS",
    "SUMMARY_TABLES",
    "Column",
    "Table",
    "tables_page",
]

ALL = (FRAMES, DETECTIONS, NOTICES, *SUMMARY_TABLES, *LONG_VIEWS, DEAD_LETTERS, SEGMENTS)
"""Every table that a query session offers."""
