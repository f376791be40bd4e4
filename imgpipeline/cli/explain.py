"""`imgpipeline explain`: trace a number to its detections, frames, images, offsets, segments and runs."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.options import JsonOption, OneDayOption, SourceOption
from imgpipeline.cli.output import note, progress_bar, show_json, show_table, shown, write_text
from imgpipeline.contracts.text import counted
from imgpipeline.lake.query.days import parse_day
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.lake.query.explain import CountedDetection, Explanation, StoredNumber, TracedSegment

app = typer.Typer(help="Trace a number to the frames and segments it was counted from.")

LabelOption = Annotated[str, typer.Option("--label", help="The label, as in the summary.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, help="Show at most this many detections and segments.")]


@app.command("label-counts")
def label_counts(
    day: OneDayOption,
    hour: Annotated[int, typer.Option("--hour", min=0, max=23, help="Hour of the UTC day, 0 to 23.")],
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
    from imgpipeline.lake.query.lake import open_arrow_lake  # noqa: PLC0415 - loads DuckDB

    lake = open_arrow_lake(load_settings())
    with progress_bar("Reading segments", unit="detections") as progress:
        explanation = lake.explain(day, label, hour=hour, source=source, progress=progress)
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
