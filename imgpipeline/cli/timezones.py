"""The option `--timezone`."""

from typing import Annotated

import typer

from imgpipeline.contracts.times import check_timezone


def _checked(name: str | None) -> str | None:
    try:
        return None if name is None else check_timezone(name)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


TimezoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        metavar="NAME",
        callback=_checked,
        help="IANA time zone of the site, such as Asia/Kolkata. Default: IMGPIPELINE_TIMEZONE, else UTC.",
    ),
]


def timezone_settings(name: str | None) -> dict[str, object]:
    """Returns what overrides the settings: the option's time zone, or nothing if it was not given."""
    return {} if name is None else {"timezone": name}
