"""Writes the tables of docs/tables.md, made from the columns: `python -m imgpipeline_tests.tables_page`."""

from collections.abc import Sequence
from pathlib import Path

from imgpipeline.lake.schema.accuracy import ACCURACY
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.redetections import MODEL_COMPARISON, REDETECTED_FRAMES, REDETECTIONS
from imgpipeline.lake.schema.tables import (
    ABOUT,
    ABOUT_CHAINS,
    DEAD_LETTERS,
    DETECTIONS,
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

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tables.md"
_LAST_LINE = "<!-- the rest of this page is generated -->\n"


def tables_page(page: str) -> str:
    """Returns docs/tables.md with its own introduction and the tables as they are now."""
    introduction, found, _ = page.partition(_LAST_LINE)
    parts = [introduction + found]
    parts += [_section(table, table.name) for table in (FRAMES, DETECTIONS, WEAK_DETECTIONS, NOTICES)]
    parts.append(_section(STORED_DEAD_LETTERS, "dead_letters, as stored"))
    parts += [_section(table, table.name) for table in SUMMARY_TABLES]
    parts += [_section(table, f"{table.name}, a histogram view") for table in HISTOGRAM_VIEWS]
    parts += [_section(table, table.name) for table in (*TRACK_TABLES, TRACK_SLICES, TRACK_OVERLAPS)]
    parts += [_section(table, table.name) for table in (*EVENT_TABLES, *PLACE_TABLES)]
    parts.append(_section(ACCURACY, ACCURACY.name))
    parts += [_section(table, table.name) for table in (REDETECTIONS, REDETECTED_FRAMES, MODEL_COMPARISON)]
    parts.append(_section(DEAD_LETTERS, "dead_letters, in a query session"))
    parts.append(_section(SEGMENTS, SEGMENTS.name))
    parts += [_section(table, f"{table.name}, in an exported file") for table in (ABOUT, ABOUT_CHAINS)]
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
    PAGE.write_text(tables_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
