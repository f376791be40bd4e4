"""How a demo ended: counts, truth, audit, and how they are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from imgpipeline.contracts.counts import counted
from imgpipeline.demo.material import CLIP_CAMERA
from imgpipeline.demo.unique import UniqueComparison, compare_unique, show_unique
from imgpipeline.demo.verdict import Comparison, LabelHour, compare, read_counts
from imgpipeline.lake.quality.audit import AuditReport
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.sources.simulator import FrameTruth


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a demo ended."""

    announced: int
    """Frames that were announced."""
    counts: dict[LabelHour, int]
    """The counts of `label_counts`."""
    comparison: Comparison | None
    """The counts compared with the truth; None if it is not known."""
    unique: UniqueComparison | None
    """The unique objects of the clip compared with the truth; None if it is not known."""
    audit: Mapping[str, Any]
    """The result of the audit."""
    problems: tuple[str, ...]
    """What is wrong; empty if nothing is."""

    @property
    def ok(self) -> bool:
        """Whether counts and audit are correct."""
        return not self.problems


def judge(
    store: ObjectStore,
    settings: Settings,
    folder: Path,
    report: AuditReport,
    announced: int,
    truths: Sequence[FrameTruth],
) -> Outcome:
    """Compares the results with the input.

    Args:
        store: The object store.
        settings: Say how long an object must be seen to be counted.
        folder: The same as a folder, for DuckDB.
        report: A full audit.
        announced: How many frames were announced.
        truths: What really is in each frame; empty if it is not known.
    """
    answer = report.to_json()
    days = [date.fromisoformat(row["day"]) for row in answer["days"]]
    built = [day for day in days if store.head(f"summaries/label_counts/day={day}/label_counts.parquet")]
    comparison = compare(folder, built, truths) if truths else None
    least_s = settings.unique_min_s
    unique = compare_unique(folder, built, truths, CLIP_CAMERA, least_s=least_s) if truths else None
    problems = [*comparison.failures, *unique.failures] if comparison and unique else []
    outcomes = sum(row["frames"] + row["gated"] + row["dead_letters"] for row in answer["partitions"])
    if outcomes != announced:
        problems.append(f"announced: {counted(announced, 'frame')}, with an outcome: {outcomes}")
    if built != days:
        problems.append("a day has no summary")
    if not answer["ok"]:
        problems.append("the audit is not ok")
    counts = read_counts(folder, built) if built else {}
    return Outcome(announced, counts, comparison, unique, answer, tuple(problems))


def show_outcome(outcome: Outcome, console: Console) -> None:
    """Shows the table label@hour and the verdict."""
    truth = outcome.comparison.truth if outcome.comparison else {}
    table = Table(title="label_counts: how many were seen in which hour", title_justify="left")
    table.add_column("label@hour (UTC)")
    table.add_column("counted", justify="right")
    if truth:
        table.add_column("truth", justify="right")
        table.add_column("difference", justify="right")
    for label, hour in sorted({*outcome.counts, *truth}, key=lambda key: (key[1], key[0])):
        seen, real = outcome.counts.get((label, hour), 0), truth.get((label, hour), 0)
        row = [f"{label}@{hour:%Y-%m-%d %H}:00", str(seen)]
        table.add_row(*row, *([str(real), f"{seen - real:+d}" if seen != real else "="] if truth else []))
    console.print(table)
    if outcome.comparison:
        score = outcome.comparison.score
        console.print(
            f"Box by box: {score.hits} found, {score.misses} missed, {score.false_alarms} false alarms "
            f"(recall {score.recall:.4f}, precision {score.precision:.4f})"
        )
    if outcome.unique:
        show_unique(outcome.unique, console)
    _show_audit(outcome.audit, console)
    for problem in outcome.problems:
        console.print(f"[bold red]Not as it should be:[/] {problem}")
    if outcome.ok:
        console.print("[bold green]All is as it should be.[/]")


def _show_audit(answer: Mapping[str, Any], console: Console) -> None:
    partitions, days = answer["partitions"], answer["days"]
    frames = sum(row["frames"] for row in partitions)
    dead = sum(row["dead_letters"] for row in partitions)
    missing = sum(row["missing"] + row["overlapping"] for row in partitions)
    in_parquet = sum(row["frames_in_parquet"] for row in days)
    console.print(
        f"Audit: {'[bold green]ok[/]' if answer['ok'] else '[bold red]not ok[/]'}: {counted(frames, 'frame')} and "
        f"{counted(dead, 'dead letter')} in {counted(len(partitions), 'partition')}, "
        f"{counted(missing, 'offset')} missing or doubled, {counted(in_parquet, 'frame')} in Parquet"
    )
