"""`imgpipeline upgrade` and `support-bundle`: may this release be started here, and what an issue report needs."""

from typing import Annotated

import typer

from imgpipeline import __version__
from imgpipeline.cli.options import open_site
from imgpipeline.cli.output import note, record_of, show_records
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.versions import compare_versions
from imgpipeline.errors import UsageError


def upgrade(
    check: Annotated[bool, typer.Option("--check", help="Compare the store with this release.")] = False,
) -> None:
    """Compare the versions in the store with those of this release, before an upgrade or a downgrade.

    Run it with the release that is to be started, before its services. Exits with status 1 if it must not be started.
    """
    if not check:
        raise UsageError("--check is missing.", next_step="give --check; an upgrade needs no other step")
    settings, store = open_site()
    parts = compare_versions(store, settings, now=utc_now())
    may_start = all(part.may_start for part in parts)
    show_records([record_of(part) for part in parts], ("part", "stored", "program", "verdict"))
    note(f"imgpipeline {__version__} {'can' if may_start else 'must not'} be started on {store.url}.")
    if not may_start:
        raise typer.Exit(1)
