"""`imgpipeline images`: delete old stored images."""

import time
from typing import Annotated

import typer

from imgpipeline.cli.options import JsonOption
from imgpipeline.cli.output import note, progress_bar, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.settings import load_settings

app = typer.Typer(help="Manage the images that imgpipeline stored.")


@app.command("retain")
def retain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; show what would be deleted.")] = False,
    limit_s: Annotated[
        float | None, typer.Option("--limit-s", min=1, help="Stop after this many seconds; the next run continues.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Delete the oldest images by IMGPIPELINE_KEEP_IMAGES_DAYS and IMGPIPELINE_KEEP_IMAGES_BYTES.

    Deletes only images below images/ whose frames have an outcome in the ledger, at most 100,000 per run. Frames,
    detections and all numbers stay. Dagster does this every hour if a limit is set (retain_images).
    """
    from imgpipeline.lake.query.image_retention import retain_images  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = load_settings()
    began_s = time.monotonic()
    with progress_bar("Deleting", unit="images") as bar:
        report = retain_images(
            open_store(settings),
            settings,
            now=utc_now(),
            dry_run=dry_run,
            is_over=lambda: limit_s is not None and time.monotonic() - began_s > limit_s,
            progress=lambda done: bar(done, 0),
        )
    if as_json:
        rows = [{name: getattr(each, name) for name in ("source", "day", "images", "size_bytes")} for each in
                report.deleted]  # fmt: skip
        show_json({"dry_run": dry_run, "images": report.images, "size_bytes": report.size_bytes, "left": report.left,
                   "complete": report.is_complete, "deleted": rows})  # fmt: skip
    elif report.deleted:
        cells = [(each.source, each.day, each.images, each.size_bytes / 1e6) for each in report.deleted]
        show_table(("source", "day", "images", "MB"), cells)
    images, size = counted(report.images, "image"), f"{report.size_bytes / 1e6:,.1f} MB"
    note(f"Would delete {images}, {size}. Nothing was changed." if dry_run else f"Deleted {images}, {size}.")
    if report.left:
        note(f"Due but kept: {counted(report.left, 'image')} whose frames have no outcome in the ledger.")
    if not report.is_complete:
        note("More images are due; the next run continues.")
