"""`imgpipeline explain`: traces a number to its detections, frames, images, offsets, segments and runs."""

from datetime import date
from typing import Annotated

import typer

from imgpipeline.cli.day_options import OneDayOption
from imgpipeline.cli.output import JsonOption, progress_bar, show_json
from imgpipeline.lake.query.days import parse_day
from imgpipeline.settings import load_settings

app = typer.Typer(help="Trace a number to the frames and segments behind it.")

LabelOption = Annotated[str, typer.Option("--label", help="The label, as in the summary.")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Only detections of this source. Default: all sources.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Show at most this many detections and segments.")]


@app.callback()
def _group() -> None:
    """Trace a number to the frames and segments behind it."""


@app.command("label-counts")
def label_counts(
    day: OneDayOption,
    hour: Annotated[int, typer.Option("--hour", min=0, max=23, help="The hour of the day (UTC), 0 to 23.")],
    label: LabelOption,
    source: SourceOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Trace the count of a label in one hour to its detections.

    Shows each detection with its frame, stored image, Kafka offset and segment, and each segment with its run and
    writer. Reads these segments, and fails if they do not add up to the number.
    The same rows in SQL: imgpipeline query "SELECT * FROM explain_label_counts(DATE '2026-01-09', 14, 'car')".
    """
    _explain(parse_day(day), hour, label, source, limit, as_json=as_json)


@app.command("label-totals")
def label_totals(
    day: OneDayOption,
    label: LabelOption,
    source: SourceOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Trace the count of a label in one day to its detections, like label-counts for an hour.

    The same rows in SQL: imgpipeline query "SELECT * FROM explain_label_totals(DATE '2026-01-09', 'car')".
    """
    _explain(parse_day(day), None, label, source, limit, as_json=as_json)


def _explain(day: date, hour: int | None, label: str, source: str | None, limit: int, *, as_json: bool) -> None:
    from imgpipeline.cli.explanation_page import show_page  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.query.arrow_lake import open_arrow_lake  # noqa: PLC0415 - as above

    lake = open_arrow_lake(load_settings())
    with progress_bar("Reading segments", unit="detections") as progress:
        explanation = lake.explain(day, label, hour=hour, source=source, progress=progress)
    if as_json:
        show_json(explanation.to_json())
    else:
        show_page(explanation, limit)
