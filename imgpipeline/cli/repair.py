"""`imgpipeline ledger repair`: repairs damaged and removed segments."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.output import JsonOption, note, progress_bar, show_json, show_table
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import UsageError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.ledger.repair.steps import RepairReport, RepairStep


def repair(
    key: Annotated[
        str | None, typer.Option(help="Only the segment with this key, as in the error message. Default: all chains.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be done.")] = False,
    without_kafka: Annotated[
        bool,
        typer.Option("--without-kafka", help="Record a gap, whatever Kafka has; needs --key. No run may be active."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Repair damaged and removed segments.

    Keeps the damaged bytes below metadata_damaged/, reads the lost offsets from Kafka and detects them again. Records a
    gap for offsets that Kafka no longer has. Then rebuilds the tables and summaries of the days.
    """
    from imgpipeline.detect.ledger_repair import repair_ledger  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    if without_kafka and key is None and not dry_run:
        raise _gives_up_too_much()
    settings, done = load_settings(), 0
    with progress_bar("Repairing", unit="offsets") as bar:

        def progress(outcomes: int) -> None:
            nonlocal done
            done += outcomes
            bar(done, 0)

        report = repair_ledger(
            settings, open_store(settings), key=key, without_kafka=without_kafka, dry_run=dry_run, clock=utc_now,
            progress=progress,
        )  # fmt: skip
    if as_json:
        show_json({**_whole(report), "dry_run": dry_run})
    else:
        _show(report, dry_run=dry_run)
    for problem in report.blocked:
        note(f"NOT repaired: {problem}")
    if report.blocked:
        raise typer.Exit(1)


def _gives_up_too_much() -> UsageError:
    return UsageError(
        "--without-kafka gives up offsets that Kafka may still have, in every chain.",
        next_step="give --key with one segment; --dry-run lists them all",
    )


def _whole(report: "RepairReport") -> dict[str, Any]:
    return {
        "steps": [_as_json(step) for step in report.steps],
        "days_built": report.days,
        "waiting": report.waiting,
        "blocked": report.blocked,
    }


def _show(report: "RepairReport", *, dry_run: bool) -> None:
    columns = ["topic", "topic id", "partition", "offsets", "found", "would be made of" if dry_run else "made of"]
    if not dry_run:
        columns += ["frames", "dead letters", "notices", "gaps", "bad bytes kept as"]
    if report.steps:
        show_table(columns, [_row(step, dry_run=dry_run) for step in report.steps])
    for day in report.days:
        note(f"Tables and summaries of {day} were built again.")
    if report.waiting:
        note(f"The tables of these days wait until the rest is repaired: {report.waiting}")
    if not report.steps:
        note("Nothing to repair: every segment can be read, and the chains have no holes.")
    elif dry_run:
        note("Nothing was changed. Run the command without --dry-run to repair this.")
    else:
        note("Repaired. `imgpipeline audit --full` checks the whole ledger.")


def _row(step: "RepairStep", *, dry_run: bool) -> list[Any]:
    chain = step.chain
    where = [chain.topic, chain.topic_id, str(chain.partition), f"[{step.start}, {step.end})", step.found, step.source]
    return where if dry_run else [*where, step.frames, step.dead_letters, step.notices, step.gaps, step.kept or ""]


def _as_json(step: "RepairStep") -> dict[str, Any]:
    fields = asdict(step)
    return {**fields.pop("chain"), **fields}
