"""The options `--day`, `--from` and `--to`; `imgpipeline.lake.query.days` reads their values."""

from typing import Annotated

import typer

OnlyDayOption = Annotated[str | None, typer.Option("--day", help="Only this day (UTC), such as 2026-01-09.")]
FromOption = Annotated[str | None, typer.Option("--from", help="First day (UTC).")]
ToOption = Annotated[str | None, typer.Option("--to", help="Last day (UTC); it is included.")]
