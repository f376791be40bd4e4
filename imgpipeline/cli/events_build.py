"""`imgpipeline events build`: builds what the rules make of some days, without Dagster."""

from typing import Annotated

import typer

from imgpipeline.cli.day_options import FromOption, OnlyDayOption, ToOption, days_with_frames
from imgpipeline.cli.output import JsonOption, show_json, show_table
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import UsageError
from imgpipeline.lake.query.days import read_span
from imgpipeline.settings import load_settings


def build(
    day: OnlyDayOption = None,
    first: FromOption = None,
    last: ToOption = None,
    force: Annotated[bool, typer.Option("--force", help="Evaluate everything again, even if nothing changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build frame_changes, events, zone_occupancy and line_crossings of days that have tables, by the present rules.

    In Dagster the assets of these names do this for every day that has news. Build the tracks first if a rule or line
    follows objects: `imgpipeline tracks build`.
    """
    from imgpipeline.events.configuration import read_rules  # noqa: PLC0415 - loads pydantic models
    from imgpipeline.events.rule_tables import build_table  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.schema import EVENT_TABLES, PLACE_TABLES  # noqa: PLC0415 - loads the package `lake`
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    span, settings = read_span(day, first, last), load_settings()
    if settings.rules_file is None:
        raise UsageError("No rules are given.", next_step="set IMGPIPELINE_RULES_FILE; docs/events.md shows how")
    store = open_store(settings)
    rules, rows = read_rules(settings, store), []
    for each in days_with_frames(store, span):
        for table in (*EVENT_TABLES, *PLACE_TABLES):
            done = build_table(store, each, table, rules=rules, settings=settings, force=force, now=utc_now())
            rows.append({"day": each, "table": table.name, "rows": done.manifest.rows, "skipped": done.skipped})
    if as_json:
        show_json(rows)
    else:
        show_table(tuple(rows[0]), [list(row.values()) for row in rows])
