"""`imgpipeline mapreduce`: print the output of classic Hadoop Streaming jobs, without Hadoop."""

from typing import Annotated

import typer

from imgpipeline.cli.options import JsonOption, command
from imgpipeline.cli.output import note, record_of, show_json, show_result, show_table, size_bar
from imgpipeline.compat.mapreduce.label_hour import count_label_hours
from imgpipeline.compat.mapreduce.line_jobs import copy_lines, read_result, total_labels
from imgpipeline.contracts.text import counted
from imgpipeline.settings import load_settings

app = typer.Typer()

InputOption = Annotated[
    str,
    typer.Option("--input", help="A file, a folder, a glob or s3://bucket/prefix; .gz, .bz2, .zst are decompressed."),
]
OutputOption = Annotated[
    str,
    typer.Option(
        "--output", "-o", help="The file to write, complete or not at all; - for stdout; or a new folder s3://bucket/…"
    ),
]
ReducersOption = Annotated[
    int | None,
    typer.Option(
        "--reducers",
        min=1,
        max=1000,
        help="Write a new folder with this many parts, part-00000 and so on, and _SUCCESS, like Hadoop. Default: one "
        "part in a bucket, otherwise one file.",
    ),
]


@command(app, "label-hour")
def label_hour(location: InputOption, output: OutputOption, reducers: ReducersOption = None) -> None:
    """Count labels by hour, with their times, in metadata documents.

    Reads JSON documents (one per file, JSON lines, or the ledger's segments). Prints label@YYYY-MM-DD HH:00, the count
    and the list of times, separated by tabs, in the byte order of the keys. Reports skipped lines on stderr.
    """
    show_result(record_of(count_label_hours(location, output, load_settings(), reducers)))


@command(app, "label-total")
def label_total(location: InputOption, output: OutputOption, reducers: ReducersOption = None) -> None:
    """Count labels in metadata documents, or in CSV files of detections: timestamp,detected_label,confidence.

    Prints the label and its count, separated by a tab, in the byte order of the labels. Input that begins with { is
    JSON documents, as for label-hour, and labels are unchanged. Labels of CSV files are trimmed and upper-cased.
    Reports skipped lines on stderr.
    """
    show_result(record_of(total_labels(location, output, load_settings(), reducers)))


@command(app, "identity")
def identity(location: InputOption, output: OutputOption, reducers: ReducersOption = None) -> None:
    """Copy all lines in the byte order of their keys, which end at the first tab, and print the copy's SHA-256."""
    show_result(record_of(copy_lines(location, output, load_settings(), reducers)))


@command(app, "show")
def show(
    location: Annotated[str, typer.Argument(metavar="FILE", help="The output of a job; same forms as `--input`.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Show this many keys.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show the largest counts in the output of a job as a table with bars.

    Reads lines of key and count, separated by a tab, as label-hour, label-total and Hadoop's own jobs write them.
    """
    found = read_result(location, limit, load_settings())
    if as_json:
        rows = [{"key": key, "count": count} for key, count in found.top]
        show_json({"lines": found.lines, "total": found.total, "malformed": found.malformed, "top": rows})
    elif found.top:
        most = found.top[0][1]
        show_table(["key", "count", ""], [[key, count, size_bar(count, most)] for key, count in found.top])
    note(f"{len(found.top):,} of {counted(found.lines, 'line')}; all counts add up to {found.total:,}.")
    if found.malformed:
        note(f"Skipped because they are not a key and a count, separated by a tab: {counted(found.malformed, 'line')}.")
