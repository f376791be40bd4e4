"""`imgpipeline frames`, `explain` and `images`: frames with their detections, and the frames behind a number."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import (
    DryRunOption,
    DurationOption,
    JsonOption,
    LatestOption,
    OneDayOption,
    Period,
    RowFormat,
    SourceOption,
    command,
    open_site,
)
from imgpipeline.cli.output import (
    note,
    note_latest,
    progress_bar,
    record_of,
    show_json,
    show_records,
    show_table,
    shown,
    write_text,
)
from imgpipeline.contracts.outcomes import FrameStatus
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.quality.image_retention import retain_images
from imgpipeline.lake.query.days import optional_day, parse_day
from imgpipeline.lake.query.explain import CountedDetection, Explanation, StoredNumber, TracedSegment
from imgpipeline.lake.query.frames import find_frames, find_named_frame
from imgpipeline.lake.query.lake import open_arrow_lake
from imgpipeline.lake.query.wanted_frames import WantedFrames
from imgpipeline.settings import load_settings

app = typer.Typer()
images_app = typer.Typer()
_FIELDS = ("file", "timestamp", "source", "source_image_path", "size_bytes", "status", "frame_id", "detections")
_DELETED = ("source", "day", "images", "size_bytes")
_FRAMES = ("file", "size_bytes", "timestamp", "source", "status", "detections")


@command(app, "list")
def list_frames(
    period: Period,
    source: SourceOption = None,
    label: Annotated[str | None, typer.Option(help="Only frames in which this label was found.")] = None,
    status: Annotated[FrameStatus | None, typer.Option(help="Only frames with this status.")] = None,
    limit: LatestOption = 100,
    *,
    rows: RowFormat,
) -> None:
    """List frames, latest first: file name, size in kB, time and detections.

    Without --day, --from and --to, lists the frames of the latest day; with --source or --status, of the latest day
    that has such frames. A frame that was announced several times is listed once. Includes all processed frames, even
    if their day is not built yet.
    """
    asked = period.span()
    settings, store = open_site()
    found = find_frames(store, settings, asked, WantedFrames(source, label, status), limit)
    frames = [{**row, "detections": dict(row["detections"])} for row in found.table.select(_FIELDS).to_pylist()]
    step = "`imgpipeline summary sources` lists the sources" if found.span.is_all else "--from and --to name other days"
    rows.show(frames, _FRAMES, fields=_FIELDS, empty=f"No frames match ({found.span}); {step}.")
    note_latest(len(frames), found.matching, f"frames ({found.span})")


@command(app, "show")
def show(
    name: Annotated[str, typer.Argument(help="The file name, as shown by `frames list`, or a frame_id.")],
    day: Annotated[str | None, typer.Option(help="UTC day. Default: the latest day.")] = None,
) -> None:
    """Show one frame with its detections as a JSON document. Of several frames with the name, shows the latest."""
    chosen = optional_day(day)
    settings, store = open_site()
    show_json(find_named_frame(store, settings, chosen, name))


def explain(
    day: OneDayOption,
    label: Annotated[str, typer.Option("--label", help="The label, as in the summary.")],
    hour: Annotated[
        int | None, typer.Option("--hour", min=0, max=23, help="Only this hour of the UTC day, 0 to 23.")
    ] = None,
    source: SourceOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many detections and segments.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Trace the count of a label, in one day or one hour, to its detections.

    Shows each detection with its frame, stored image, Kafka offset and segment, and each segment with its run and
    writer. Reads these segments, and fails if they do not add up to the number.
    The same rows in SQL: imgpipeline query "SELECT * FROM explain_label_counts(DATE '2026-01-09', 14, 'car')", or
    explain_label_totals(DATE '2026-01-09', 'car').
    """
    wanted = parse_day(day)
    lake = open_arrow_lake(load_settings())
    with progress_bar("Reading segments", unit="detections") as progress:
        explanation = lake.explain(wanted, label, hour=hour, source=source, progress=progress)
    if as_json:
        show_json(explanation.to_json())
    else:
        _show_page(explanation, limit)


def _show_page(explanation: "Explanation", limit: int) -> None:
    """Writes the explanation to stdout, with at most `limit` detections and segments."""
    write_text("\n".join([*_headline(explanation), ""]) + "\n")
    places = {segment.key: place for place, segment in enumerate(explanation.segments, 1)}
    show_table(
        ["time", "source", "image", "confidence", "box x, y, w, h", "record", "segment"],
        [_row(found, places) for found in explanation.detections[:limit]],
    )
    # Not a table: keys are long, and users copy them.
    segments = (_segment(place, each) for place, each in enumerate(explanation.segments[:limit], 1))
    write_text("\nSegments:\n" + "".join(segments))
    for deleted in explanation.deleted_images:
        images = counted(deleted.images, "image")
        on = deleted.deleted_at.date()
        note(f"Image retention deleted {images} of {deleted.source} of {deleted.day} on {on}.")
    _note_left_out("detections", explanation.detections, limit)
    _note_left_out("segments", explanation.segments, limit)


def _headline(explanation: "Explanation") -> list[str]:
    count, number = explanation.count, explanation.number
    found = counted(len(explanation.detections), "detection")
    segments = counted(len(explanation.segments), "segment")
    lines = [
        f"{count:,} {shown(str(number))}",
        "",
        f"Adds up:   {found} in {counted(explanation.frames, 'frame')}, each confirmed by its segment ({segments})",
        f"Sources:   {_parts(explanation.sources)}",
    ]
    for (name, sha256, threshold), made in explanation.models.items():
        above = "unknown" if threshold is None else threshold
        model = f"{shown(name or 'unknown')}, sha256 {sha256[:16] or 'unknown'}, confidence above {above}"
        lines.append(f"Model:     {model}: {counted(made, 'detection')}")
    if explanation.least_confidence > 0:
        lines.append(
            f"Counted:   confidence {explanation.least_confidence} or more (IMGPIPELINE_SUMMARY_THRESHOLD); "
            f"{explanation.not_counted:,} below it not counted"
        )
    return lines + _stored(explanation)


def _stored(explanation: "Explanation") -> list[str]:
    stored = explanation.stored
    if stored is None:
        return ["Stored:    not yet; the number comes from the ledger's segments and the day tables"]
    manifest = stored.manifest
    ends = ", ".join(f"{chain.topic}/{chain.partition} up to {end:,}" for chain, end in sorted(manifest.ends.items()))
    return [
        f"Stored:    {stored.count:,} in {stored.key}{_why_different(stored, explanation.count)}",
        f"           built {shown(manifest.built_at)} by recipe {manifest.made_by} from {ends}",
    ]


def _why_different(stored: "StoredNumber", count: int) -> str:
    if not stored.is_by_present_recipe:
        return " (by another recipe: SQL or settings have changed since)"
    return "" if stored.count == count else " (the number above includes newer frames)"


def _row(found: "CountedDetection", places: Mapping[str, int]) -> tuple[Any, ...]:
    box = "-" if found.box_xywh is None else ", ".join(f"{edge:g}" for edge in found.box_xywh)
    where = f"{found.chain.topic}/{found.chain.partition}/{found.offset}"
    replayed = f" (replay of {found.replay_of})" if found.replay_of else ""
    return (
        found.timestamp,
        found.source,
        found.source_image_path,
        found.confidence,
        box,
        where + replayed,
        f"#{places[found.segment]}",
    )


def _segment(place: int, segment: "TracedSegment") -> str:
    offsets = (
        f"offset {segment.start:,}"
        if segment.end == segment.start + 1
        else f"offsets {segment.start:,} to {segment.end - 1:,}"
    )
    return (
        f"#{place}  {shown(segment.key)}\n"
        f"    {offsets}, with {segment.detections:,} of the detections; written {shown(segment.created_at)}\n"
        f"    by run {shown(segment.run_id)}, writer {shown(segment.writer_id)}\n"
    )


def _note_left_out(what: str, rows: Sequence[Any], limit: int) -> None:
    if len(rows) > limit:
        note(f"Showing the first {limit:,} of {len(rows):,} {what}; --limit shows more, --json all.")


def _parts(counts: Mapping[str, int], most: int = 10) -> str:
    named = ", ".join(f"{shown(name)} {count:,}" for name, count in list(counts.items())[:most])
    return named + (f" and {len(counts) - most:,} more" if len(counts) > most else "")


@command(images_app, "retain")
def retain(dry_run: DryRunOption = False, duration_s: DurationOption = None, as_json: JsonOption = False) -> None:
    """Delete the oldest images by IMGPIPELINE_KEEP_IMAGES_DAYS and IMGPIPELINE_KEEP_IMAGES_BYTES.

    Deletes only images below images/ whose frames have an outcome in the ledger, at most 100,000 per run. Frames,
    detections and all numbers stay. Dagster does this every hour if a limit is set (retain_images).
    """
    settings, store = open_site()
    began_s = time.monotonic()
    with progress_bar("Deleting", unit="images") as bar:
        report = retain_images(
            store,
            settings,
            now=utc_now(),
            dry_run=dry_run,
            is_over=lambda: duration_s is not None and time.monotonic() - began_s > duration_s,
            progress=lambda done: bar(done, 0),
        )
    if as_json:
        total = {"images": report.images, "size_bytes": report.size_bytes}
        show_json({"dry_run": dry_run, **total, **record_of(report)})
    elif report.deleted:
        show_records([record_of(each) for each in report.deleted], _DELETED)
    images, size = counted(report.images, "image"), f"{report.size_bytes / 1e6:,.1f} MB"
    note(f"Would delete {images}, {size}. Nothing was changed." if dry_run else f"Deleted {images}, {size}.")
    if report.left:
        note(f"Due but kept: {counted(report.left, 'image')} whose frames have no outcome in the ledger.")
    if not report.is_complete:
        note("More images are due; the next run continues.")
