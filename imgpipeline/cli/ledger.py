"""`imgpipeline ledger`: list, bundle and repair the chains of segments, and start new ones."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.options import JsonOption, YesOption, followed_topic, from_arguments
from imgpipeline.cli.output import confirm, note, progress_bar, show_json, show_table
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import LedgerError, UsageError
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.contracts.keys import ChainId
    from imgpipeline.detect.resume import Contradiction
    from imgpipeline.ledger.bundles.making import BundlingReport
    from imgpipeline.ledger.repair.damage import RepairReport, RepairStep
    from imgpipeline.objectstore import ObjectStore

app = typer.Typer(help="List, bundle and repair the ledger's chains of segments.")


@dataclass(frozen=True, slots=True)
class ChainEndRow:
    """The end of one chain, as far as it can be read."""

    topic: str
    """Kafka topic, or `import.<name>`."""
    topic_id: str
    """Which incarnation of the topic."""
    partition: int
    """Kafka partition."""
    end: int | None = None
    """First offset without an outcome; None if the last segment cannot be read."""
    last_start: int | None = None
    """First offset of the last segment; None if there is none or it cannot be read."""
    last_commit: datetime | None = None
    """When the last segment was written, UTC; None as above."""
    run_id: str | None = None
    """The run that wrote the last segment; None as above."""
    closed: bool = False
    """Whether the chain is closed: its log continues in the next chain (`ledger new-chain`)."""
    problem: str | None = None
    """Why the end cannot be read; None if it can."""


@app.command("ends")
def ends(
    topic: Annotated[str | None, typer.Option(help="Only the chains of this topic. Default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List all chains and their ends, including those of earlier topics and of imports. Does not need Kafka."""
    from imgpipeline.contracts.keys import ChainId  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    if topic is not None:
        with from_arguments("give the name of a topic; `imgpipeline ledger ends` lists all chains"):
            ChainId(topic, "any", 0)
    rows = list(_read_ends(open_store(load_settings()), topic))
    if as_json:
        show_json([asdict(row) for row in rows])
    elif rows:
        columns = ("topic", "topic id", "partition", "end", "last segment", "last commit", "run", "closed")
        show_table(
            columns,
            [
                (r.topic, r.topic_id, str(r.partition), r.end, r.last_start, r.last_commit, r.run_id, r.closed)
                for r in rows
            ],
        )
    else:
        note(f"The ledger has no chain of the topic {topic}." if topic else "The ledger has no chain yet.")
    problems = [row.problem for row in rows if row.problem]
    for problem in problems:
        note(f"WRONG: {problem}")
    if problems:
        raise typer.Exit(1)


def _read_ends(store: "ObjectStore", topic: str | None) -> Iterator[ChainEndRow]:
    from imgpipeline.ledger import for_each_chain, list_chains  # noqa: PLC0415 - loads obstore

    return for_each_chain(list_chains(store, topic), lambda chain: _read_end(store, chain))


def _read_end(store: "ObjectStore", chain: "ChainId") -> ChainEndRow:
    from imgpipeline.ledger import find_end  # noqa: PLC0415 - loads obstore

    try:
        end = find_end(store, chain)
    except LedgerError as error:
        return ChainEndRow(chain.topic, chain.topic_id, chain.partition, problem=error.message)
    last = end.header
    return ChainEndRow(
        topic=chain.topic,
        topic_id=chain.topic_id,
        partition=chain.partition,
        end=end.offset,
        last_start=end.hint,
        last_commit=last.created_at if last else None,
        run_id=last.provenance.run_id if last else None,
        closed=end.is_closed,
    )


@app.command("new-chain")
def new_chain(
    partition: Annotated[
        list[int] | None, typer.Option(min=0, help="Only this partition; repeatable. Default: all.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Only this topic of IMGPIPELINE_KAFKA_TOPIC. Default: all.")] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Start a new chain for a log that was truncated or re-created under the same name.

    Changes only partitions whose log contradicts the ledger. Their chain is closed and stays unchanged, also in queries
    and audits. The log is read from its beginning; frames that were read before keep their frame_id, so they are not
    counted twice.
    """
    from imgpipeline.detect.resume import begin_new_chain, find_contradictions  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    settings = followed_topic(load_settings(), topic)
    store = open_store(settings)
    found = find_contradictions(settings, store, partition or ())
    for one in found:
        log = one.log
        note(f"{one.end.chain}: {one.why}; the log now has the offsets [{log.log_start}, {log.log_end}).")
    if found and not yes:
        confirm(f"Close {len(found)} of the ledger's chains and start new ones?")
    done = [_new_chain_json(one, begin_new_chain(settings, store, one, now=utc_now())) for one in found]
    if as_json:
        show_json({"topic": ",".join(settings.kafka_topics), "new_chains": done})
    for row in done:
        note(
            f"Partition {row['partition']} of {row['topic']} continues in the chain {row['new_topic_id']}; "
            "the next run starts it."
        )
    if not found:
        note(f"Nothing to do: no log of {', '.join(settings.kafka_topics)} contradicts its chain.")


def _new_chain_json(found: "Contradiction", chain: "ChainId") -> dict[str, Any]:
    return {
        "topic": found.log.topic,
        "partition": found.log.partition,
        "why": found.why,
        "closed_topic_id": found.end.chain.topic_id,
        "closed_at": found.end.offset,
        "new_topic_id": chain.topic_id,
        "log_start": found.log.log_start,
        "log_end": found.log.log_end,
    }


@app.command("repair")
def repair(
    key: Annotated[
        str | None, typer.Option(help="Only the segment with this key, as in the error message. Default: all chains.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be repaired.")] = False,
    without_kafka: Annotated[
        bool,
        typer.Option(
            "--without-kafka", help="Record a gap even if Kafka has the offsets; needs --key. No run may be active."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Repair damaged and removed segments.

    Keeps the damaged bytes below metadata_damaged/, reads the lost offsets from Kafka and detects them again. Records a
    gap for offsets that Kafka no longer has. Then rebuilds the tables and summaries of the affected days.
    """
    from imgpipeline.detect.ledger_repair import repair_ledger  # noqa: PLC0415 - loads kafka-python
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    if without_kafka and key is None and not dry_run:
        message = "--without-kafka gives up offsets that Kafka may still have, in every chain."
        raise UsageError(message, next_step="give --key with one segment; --dry-run lists them all")
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
        show_json({**_repair_json(report), "dry_run": dry_run})
    else:
        _show_repair(report, dry_run=dry_run)
    for problem in report.blocked:
        note(f"NOT repaired: {problem}")
    if report.blocked:
        raise typer.Exit(1)


def _repair_json(report: "RepairReport") -> dict[str, Any]:
    return {
        "steps": [_step_json(step) for step in report.steps],
        "days_built": report.days,
        "waiting": report.waiting,
        "blocked": report.blocked,
    }


def _show_repair(report: "RepairReport", *, dry_run: bool) -> None:
    columns = [
        "topic",
        "topic id",
        "partition",
        "offsets",
        "found",
        "would be rebuilt from" if dry_run else "rebuilt from",
    ]
    if not dry_run:
        columns += ["frames", "dead letters", "notices", "gaps", "damaged bytes kept as"]
    if report.steps:
        show_table(columns, [_step_cells(step, dry_run=dry_run) for step in report.steps])
    for day in report.days:
        note(f"Tables and summaries of {day} were rebuilt.")
    if report.waiting:
        note(f"The tables of the repaired days are not rebuilt yet: {report.waiting}")
    if not report.steps:
        note("Nothing to repair: every segment can be read, and the chains have no holes.")
    elif dry_run:
        note("Nothing was changed. Run the command without --dry-run to repair this.")
    else:
        note("Repaired. `imgpipeline audit --full` checks the whole ledger.")


def _step_cells(step: "RepairStep", *, dry_run: bool) -> list[Any]:
    chain = step.chain
    where = [chain.topic, chain.topic_id, str(chain.partition), f"[{step.start}, {step.end})", step.found, step.source]
    return where if dry_run else [*where, step.frames, step.dead_letters, step.notices, step.gaps, step.kept or ""]


def _step_json(step: "RepairStep") -> dict[str, Any]:
    fields = asdict(step)
    return {**fields.pop("chain"), **fields}


@app.command("bundle")
def bundle(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be bundled.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the segments of each range of 10,000 offsets into one object, so reading a day takes far fewer requests.

    The segments stay in place; a bundle is a copy that readers prefer. Dagster does this every hour (bundle_segments).
    Skips ranges that still grow, are damaged, have holes, or consist of only a few long segments.
    """
    from imgpipeline.ledger.bundles.making import bundle_ledger  # noqa: PLC0415 - `--help` does not wait for it
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    store = open_store(load_settings())
    with progress_bar("Bundling", unit="bundles") as bar:
        report = bundle_ledger(store, dry_run=dry_run, progress=lambda so_far: bar(so_far.bundles, 0))
    if as_json:
        show_json({**asdict(report), "dry_run": dry_run})
    else:
        note(_bundling_text(report, dry_run=dry_run))
    for problem in report.problems:
        note(f"NOT bundled: {problem}")
    if report.problems:
        raise typer.Exit(1)


def _bundling_text(report: "BundlingReport", *, dry_run: bool) -> str:
    if not report.bundles:
        return "Nothing to bundle: every complete range with many segments has its bundle."
    bundles = f"{counted(report.bundles, 'bundle')} of {counted(report.segments, 'segment')}"
    what = f"{bundles}, {report.size_bytes / 1e6:,.1f} MB"
    saved = f"reading them all takes {report.requests_saved:,} fewer requests"
    return f"Would make {what}; {saved}. Nothing was changed." if dry_run else f"Made {what}; {saved}."
