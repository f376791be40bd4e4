"""The columns of every table in the lake: names, types, units, meanings.

Parquet schemas, queries and docs/tables.md (`python -m imgpipeline_tests.tables_page`) are generated from them.
"""

from imgpipeline.lake.schema.accuracy import ACCURACY
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.tables import (
    DEAD_LETTERS,
    DETECTIONS,
    FRAMES,
    HISTOGRAM_VIEWS,
    NOTICES,
    SEGMENTS,
    SUMMARY_TABLES,
    WEAK_DETECTIONS,
)
from imgpipeline.lake.schema.tracks import TRACK_TABLES

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
    ACCURACY,
    DEAD_LETTERS,
    SEGMENTS,
)
"""Every table that a query session offers."""
