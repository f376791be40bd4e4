"""`imgpipeline ledger bundle`: copy many small segments into one object, so that days are read in fewer requests."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.ledger.bundles.bundling import BundlingReport


def bundle(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be bundled.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bundle the segments of each range of 10,000 offsets, so that reading a day takes far fewer requests.

    Segments stay where they are; a bundle is a copy that readers prefer. Dagster does this every hour
    (bundle_segments). Ranges that still grow, are damaged or have holes, or hold only a few long segments are skipped.
    """
    from imgpipeline.ledger.bundles.bundling import bundle_ledger  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    store = open_store(load_settings())
    with progress_bar("Bundling", unit="bundles") as bar:
        report = bundle_ledger(store, dry_run=dry_run, progress=lambda so_far: bar(so_far.bundles, 0))
    if as_json:
        show_json({**asdict(report), "dry_run": dry_run})
    else:
        _show(report, dry_run=dry_run)
    for problem in report.problems:
        note(f"NOT bundled: {problem}")
    if report.problems:
        raise typer.Exit(1)


def _show(report: "BundlingReport", *, dry_run: bool) -> None:
    if not report.bundles:
        note("Nothing to bundle: every complete range with many segments has its bundle.")
        return
    size = f"{report.size_bytes / 1e6:,.1f} MB"
    what = f"{report.bundles:,} bundles of {report.segments:,} segments, {size}"
    saved = f"reading them all takes {report.requests_saved:,} fewer requests"
    note(f"Would make {what}; {saved}. Nothing was changed." if dry_run else f"Made {what}; {saved}.")
