"""`imgpipeline report`: write the daily report to a file."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from imgpipeline.cli.options import TimezoneOption, timezone_settings
from imgpipeline.cli.output import note, write_text
from imgpipeline.contracts.times import find_timezone, utc_now
from imgpipeline.lake.query.days import optional_day
from imgpipeline.settings import load_settings

_STDOUT = "-"


def report(
    day: Annotated[str | None, typer.Option("--day", help="The day, such as 2026-01-09. Default: yesterday.")] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", help="File to write; - for stdout. Default: report-DAY.html in the current folder."),
    ] = None,
    timezone: TimezoneOption = None,
) -> None:
    """Write the report of a day: one HTML page with charts, images, dead letters and the audit of the day.

    The page needs no other file and no network, and includes everything up to this moment. Uses the stored report if it
    is current and the time zone is UTC; otherwise makes the page for this call. Writes nothing to the store; the asset
    daily_report does that.
    """
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.objectstore.files import open_output, write  # noqa: PLC0415 - as above
    from imgpipeline.reports.build import current_page  # noqa: PLC0415 - loads DuckDB and Jinja2

    settings, now = load_settings(**timezone_settings(timezone)), utc_now()
    wanted = optional_day(day) or now.astimezone(find_timezone(settings.timezone)).date() - timedelta(days=1)
    page = current_page(open_store(settings), settings, wanted, now=now)
    if out == _STDOUT:
        write_text(page.decode())
        return
    path = Path(out) if out else Path(f"report-{wanted.isoformat()}.html")
    with open_output(str(path), option="--out") as stream:  # so a mail job never sends half a page
        write(stream, page)
    note(f"Wrote the report of {wanted} to {path} ({len(page) / 1024:,.0f} kB).")
