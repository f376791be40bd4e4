"""`imgpipeline explain`: a number followed back to its detections, frames, pictures, offsets, segments and runs."""

from datetime import date
from typing import Annotated

import typer

from imgpipeline.cli.output import JsonOption, progress_bar, show_json
from imgpipeline.lake.query.days import parse_day
from imgpipeline.settings import load_settings

app = typer.Typer(help="Follow a number back to the frames and segments behind it.")

DayOption = Annotated[str, typer.Option("--day", help="The day (UTC), such as 2026-01-09.")]
LabelOption = Annotated[str, typer.Option("--label", help="The label, as the summary has it.")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Only detections of this source. Default: all sources.")
]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="At most this many detections and segments.")]


@app.callback()
def _group() -> None:
    """Follow a number back to the frames and segments behind it."""


@app.command("label-counts")
def label_counts(
    day: DayOption,
    hour: Annotated[int, typer.Option("--hour", min=0, max=23, help="The hour of the day (UTC), 0 to 23.")],
    label: LabelOption,
    source: SourceOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Follow the count of a label in an hour back to its detections.

    Each detection is shown with its frame, stored picture, Kafka offset and segment; each segment with model, run and
    writer. The segments are read for this, and it is an error where what they hold does not add up to the number.
    The same rows by SQL: imgpipeline query "SELECT * FROM explain_label_counts(DATE '2026-01-09', 14, 'car')".
    """
    _explain(parse_day(day), hour, label, source, limit, as_json=as_json)


@app.command("label-totals")
def label_totals(
    day: DayOption,
    label: LabelOption,
    source: SourceOption = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Follow the count of a label in a whole day back to its detections, as label-counts does for an hour.

    The same rows by SQL: imgpipeline query "SELECT * FROM explain_label_totals(DATE '2026-01-09', 'car')".
    """
    _explain(parse_day(day), None, label, source, limit, as_json=as_json)


def _explain(day: date, hour: int | None, label: str, source: str | None, limit: int, *, as_json: bool) -> None:
    from imgpipeline.cli.explanation_page import show_page  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.lake.query.lake import open_arrow_lake  # noqa: PLC0415 - as above

    lake = open_arrow_lake(load_settings())
    with progress_bar("Reading segments", unit="detections") as progress:
        explanation = lake.explain(day, label, hour=hour, source=source, progress=progress)
    if as_json:
        show_json(explanation.to_json())
    else:
        show_page(explanation, limit)
