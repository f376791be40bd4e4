"""The columns of every table in the lake: names, types, units, meanings.

Parquet schemas, queries and docs/tables.md (`python -m imgpipeline_tests.tables_page`) are generated from them.
"""

from imgpipeline.lake.schema.events import (
    EVENT_TABLES,
    EVENTS,
    FRAME_CHANGES,
    LINE_CROSSINGS,
    PLACE_TABLES,
    ZONE_OCCUPANCY,
)
from imgpipeline.lake.schema.tables import (
    DAY_TABLE_NAMES,
    DAY_TABLES,
    DEAD_LETTERS,
    DETECTIONS,
    FRAME_STATS,
    FRAMES,
    HISTOGRAM_VIEWS,
    LABEL_COUNTS,
    LABEL_TIMESTAMPS,
    LABEL_TOTALS,
    NOTICES,
    SCHEMA_VERSION,
    SEGMENTS,
    SOURCE_ACTIVITY,
    STORED_DEAD_LETTERS,
    SUMMARY_TABLES,
    WEAK_DETECTIONS,
    Column,
    Table,
)
from imgpipeline.lake.schema.tracks import TRACK_TABLES

__all__ = [
    "ALL",
    "DAY_TABLES",
    "DAY_TABLE_NAMES",
    "DEAD_LETTERS",
    "DETECTIONS",
    "EVENTS",
    "EVENT_TABLES",
    "FRAMES",
    "FRAME_CHANGES",
    "FRAME_STATS",
    "HISTOGRAM_VIEWS",
    "LABEL_COUNTS",
    "LABEL_TIMESTAMPS",
    "LABEL_TOTALS",
    "LINE_CROSSINGS",
    "NOTICES",
    "PLACE_TABLES",
    "SCHEMA_VERSION",
    "SEGMENTS",
    "SOURCE_ACTIVITY",
    "STORED_DEAD_LETTERS",
    "SUMMARY_TABLES",
    "TRACK_TABLES",
    "WEAK_DETECTIONS",
    "ZONE_OCCUPANCY",
    "Column",
    "Table",
]

ALL = (
    FRAMES,
    DETECTIONS,
    WEAK_DETECTIONS,
    NOTICES,
    *SUMMARY_TABLES,
    *HISTOGRAM_VIEWS,
    *TRACK_TABLES,
    *EVENT_TABLES,
    *PLACE_TABLES,
    DEAD_LETTERS,
    SEGMENTS,
)
"""Every table that a query session offers."""
