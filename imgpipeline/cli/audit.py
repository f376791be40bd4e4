"""`imgpipeline audit`: has every offset exactly one outcome, and do tables and summaries agree with it?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json, show_table
from imgpipeline.settings import load_settings, utc_now

if TYPE_CHECKING:
    from imgpipeline.contracts.log import LogRange


def audit(
    full: Annotated[bool, typer.Option("--full", help="Read everything again, not only what is new.")] = False,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Offsets that expired unread do not make it fail.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that every offset has exactly one outcome and that day tables and summaries agree with the ledger.

    Ends with status 1 where something is missing, overlaps or disagrees. Lag is not missing.
    """
    from imgpipeline.lake.audit import audit as audit_ledger  # noqa: PLC0415 - loads DuckDB
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore
    from imgpipeline.stream.log import read_log  # noqa: PLC0415 - loads kafka-python

    settings = load_settings()

    def read_logs() -> "list[LogRange]":
        return read_log(settings)

    with progress_bar("Auditing", unit="segments") as progress:
        report = audit_ledger(
            open_store(settings),
            read_logs,
            full=full,
            allow_gaps=allow_gaps or settings.allow_gaps,
            progress=progress,
            now=utc_now(),
        )
    if as_json:
        show_json(report.to_json())
    else:
        _show(report.to_json())
    for problem in report.problems:
        note(f"WRONG: {problem}")
    if report.stray_keys:
        note(f"Ignored: {len(report.stray_keys)} objects below metadata/ that are no segments, {report.stray_keys[0]}.")
    note("The audit is ok." if report.ok else "The audit is NOT ok.")
    if not report.ok:
        raise typer.Exit(1)


def _show(report: Mapping[str, Any]) -> None:
    columns = ("topic", "partition", "ledger_end", "log_end", "frames", "gated", "dead_letters", "gaps", "missing",
               "overlapping")  # fmt: skip
    partitions = report["partitions"]
    show_table([name.replace("_", " ") for name in columns], [[_cell(p, name) for name in columns] for p in partitions])
    days = ("day", "frames_in_ledger", "frames_in_parquet", "detections_in_ledger", "detections_in_parquet",
            "dead_letters_in_ledger", "dead_letters_in_parquet", "duplicates", "stale")  # fmt: skip
    if report["days"]:
        show_table([name.replace("_", " ") for name in days], [[day[name] for name in days] for day in report["days"]])


def _cell(partition: dict[str, Any], name: str) -> Any:
    value = partition[name]
    if name == "gaps":
        return ", ".join(f"{reason} {offsets:,}" for reason, offsets in value.items())
    return str(value) if name == "partition" else value
