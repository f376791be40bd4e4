"""Prints docs/tables.md, made from the columns: `python -m imgpipeline_tests.tables_page > docs/tables.md`."""

import sys
from collections.abc import Sequence

from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON, REDETECTED_FRAMES, REDETECTIONS
from imgpipeline.lake.schema.tables import (
    DEAD_LETTERS,
    DETECTIONS,
    EXPORT_TABLES,
    FRAMES,
    HISTOGRAM_VIEWS,
    NOTICES,
    SEGMENTS,
    STORED_DEAD_LETTERS,
    SUMMARY_TABLES,
    WEAK_DETECTIONS,
    Column,
    Table,
)
from imgpipeline.lake.schema.tracks import TRACK_OVERLAPS, TRACK_SLICES, TRACK_TABLES

_INTRODUCTION = """# Tables

The tables that `imgpipeline query` offers, and the Parquet files in the object store. This page is generated:
`python -m imgpipeline_tests.tables_page > docs/tables.md`.

| layer | tables | where |
|---|---|---|
| day tables | `frames`, `detections`, `dead_letters`, `notices` | `frames/day=2026-01-09/frames.parquet` |
| | `weak_detections` ([tracking.md](tracking.md#how-objects-are-followed)) | the same, for days that have any |
| summaries | {summaries} | `summaries/label_counts/day=2026-01-09/label_counts.parquet` |
| histogram views of `frame_stats` | {histogram_views} | in a query session and in exported files |
| events | `frame_changes`, `events` | `events/day=2026-01-09/events.parquet` |
| | `zone_occupancy`, `line_crossings` | `summaries/zone_occupancy/day=2026-01-09/zone_occupancy.parquet` |
| re-processed | `redetections` | `redetections/model=demo~0.3/day=2026-01-09/detections.parquet` |
| | `redetected_frames` | `redetections/model=demo~0.3/day=2026-01-09/frames.parquet` |
| compared | `model_comparison` | `summaries/model_comparison/day=2026-01-09/model_comparison.parquet` |
| tracks ([tracking.md](tracking.md)) | `tracks`, `track_points` | `tracks/day=2026-01-09/tracks.parquet` |
| | `unique_objects`, `unique_totals` | `summaries/unique_objects/day=2026-01-09/unique_objects.parquet` |
| | `track_slices`, `track_overlaps` | only as files, for the next build to start from |
| views of the ledger | `dead_letters` (with the result of replays), `segments` | only in a query session |

`frames` and `detections` are sorted by time, dead letters by offset, summaries by hour and name. Any engine reads them:

```sql
SELECT label, count(*) FROM read_parquet('s3://bucket/prefix/detections/day=*/detections.parquet') GROUP BY label;
```

The column `day` is part of the path (Hive partitioning), not of the file; engines add it automatically.

Rows of an import ([imports.md](imports.md)) may lack details of their frame. Size, dimensions, brightness, sharpness,
thresholds, `processing_timestamp`, `class_id` and box are then NULL, and texts such as model and image path are empty.

To recount frames from your own files, compare hashes. `comm` prints nothing if each file is one frame; otherwise files
without a frame on the left, and frames without a file on the right:

```bash
imgpipeline query "SELECT sha256 FROM frames" --csv | grep -oE '[0-9a-f]{{64}}' | sort > counted
sha256sum images/*.jpg | cut -c 1-64 | sort > mine
comm -3 mine counted
```

`frames.sha256` is the hash of the bytes that were read for detection. A source that resizes frames stores other bytes
than it received, so compare those below `images/`. Rejected images are in `dead_letters`.

Each file's footer holds its manifest under the key `imgpipeline`: schema version, recipe hash, the covered end of each
chain, the time of the build, and the number of rows. `frames` is stored first, then `detections`, `dead_letters` and
`notices`. While a day is being rebuilt they may have different ends, and each is correct up to its own. A summary of
several tables waits until all have the same ends; in a query session all tables show the same moment.

A table larger than `IMGPIPELINE_TABLE_OBJECT_BYTES` (default 500 MB) is stored in several objects of one version: the
beginning of the Parquet file in pieces below `table_pieces/`, its end in the object above, whose footer names the
pieces under the key `imgpipeline_pieces`. All commands read the whole table. Other engines report that object as
damaged instead of reading part of the rows; for such a day, use `imgpipeline query` or a file of `imgpipeline export`.

A summary's manifest also names the version of each input table (a hash of its rows and ends, which a copy of the table
keeps), the query (`imgpipeline/lake/days/sql`) and the settings that the query reads, so `imgpipeline audit` can make
the summary again. In a query, `local_hour(t)` is `time_bucket(INTERVAL 1 hour, t)` and `local_day(t)` is `CAST(t AS
DATE)`, in UTC. Label summaries leave out detections with a confidence below `IMGPIPELINE_SUMMARY_THRESHOLD` (default 0:
all count). To combine several days, add up counts, sizes and the maps of bins, and weight a mean by its count. Label
summaries have one row per source: add up `count` and `distinct_frames` over sources, and count distinct `source` to see
how many saw the label. Do not add up `distinct_frames` over labels: one frame may show several.

The histogram views show the maps of `frame_stats` as rows, one per bin that has frames, for tools that cannot read
maps: `SELECT from_bytes, sum(frames) FROM frame_sizes GROUP BY 1`. A frame is in at most one bin, so counts add up over
hours, days and sources. `imgpipeline export duckdb FILE` writes them and all other tables of a query session into one
file ([bi.md](bi.md)).

`frame_changes`, `events`, `zone_occupancy` and `line_crossings` ([events.md](events.md)) depend on `rules.toml`. A
query session shows them as stored; the next build adds newer frames.

Results of other models ([redetection.md](redetection.md)) are not part of query sessions: read their files. The column
`model` is part of their paths, like `day`, with a tilde in place of the at sign.

"Derived from" names the columns of the stored tables that a column comes from.
"""


def tables_page() -> str:
    """Returns docs/tables.md."""
    summaries = ", ".join(f"`{table.name}`" for table in SUMMARY_TABLES)
    long_views = ", ".join(f"`{table.name}`" for table in HISTOGRAM_VIEWS)
    parts = [_INTRODUCTION.format(summaries=summaries, histogram_views=long_views)]
    parts += [_section(table, table.name) for table in (FRAMES, DETECTIONS, WEAK_DETECTIONS, NOTICES)]
    parts.append(_section(STORED_DEAD_LETTERS, "dead_letters, as stored"))
    parts += [_section(table, table.name) for table in SUMMARY_TABLES]
    parts += [_section(table, f"{table.name}, a histogram view") for table in HISTOGRAM_VIEWS]
    parts += [_section(table, table.name) for table in (*TRACK_TABLES, TRACK_SLICES, TRACK_OVERLAPS)]
    parts += [_section(table, table.name) for table in (*EVENT_TABLES, *PLACE_TABLES)]
    parts += [_section(table, table.name) for table in (REDETECTIONS, REDETECTED_FRAMES, MODEL_COMPARISON)]
    parts.append(_section(DEAD_LETTERS, "dead_letters, in a query session"))
    parts.append(_section(SEGMENTS, SEGMENTS.name))
    parts += [_section(table, f"{table.name}, in an exported file") for table in EXPORT_TABLES]
    return "\n".join(parts)


def _section(table: Table, title: str) -> str:
    made = any(column.made_of for column in table.columns)
    header = ["column", "type", "unit", "meaning", *(["derived from"] if made else [])]
    lines = [f"## {title}", "", f"One row: {table.row}.", "", _line(header), "|" + "---|" * len(header)]
    return "\n".join([*lines, *(_line(_cells(column, made=made)) for column in table.columns), ""])


def _cells(column: Column, *, made: bool) -> list[str]:
    cells = [f"`{column.name}`", column.duckdb_type, column.unit, column.meaning]
    return [*cells, ", ".join(f"`{name}`" for name in column.made_of)] if made else cells


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(tables_page())
