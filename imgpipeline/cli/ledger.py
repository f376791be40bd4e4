"""`imgpipeline ledger`: list and repair the chains of segments, and start new ones."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import (
    DryRunOption,
    JsonOption,
    RowFormat,
    YesOption,
    command,
    followed_topic,
    from_arguments,
    open_site,
)
from imgpipeline.cli.output import confirm, note, progress_bar, record_of, show_json, show_records
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect import resume, state
from imgpipeline.detect.ledger_repair import repair_ledger
from imgpipeline.detect.resume import Contradiction, begin_new_chain, find_contradictions
from imgpipeline.errors import LedgerError, TransientError, UsageError
from imgpipeline.ledger import reading
from imgpipeline.ledger.reading import find_end
from imgpipeline.ledger.repair.damage import RepairReport, RepairStep
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.parallel import map_ahead
from imgpipeline.stream.log import read_log

app = typer.Typer()
PartitionOption = Annotated[
    list[int] | None, typer.Option("--partition", min=0, help="Only this partition; repeatable. Default: all.")
]
TopicOption = Annotated[
    str | None, typer.Option("--topic", help="Only this topic of IMGPIPELINE_KAFKA_TOPIC. Default: all.")
]


_CHAINS = ("topic", "topic_id", "partition", "end", "last_start", "last_commit", "run_id", "closed")


@command(app, "list")
def list_chains(
    topic: Annotated[str | None, typer.Option("--topic", help="Only the chains of this topic. Default: all.")] = None,
    *,
    rows: RowFormat,
) -> None:
    """List all chains and their ends, including those of earlier topics and of imports. Does not need Kafka."""
    if topic is not None:
        with from_arguments("give the name of a topic; `imgpipeline ledger list` lists all chains"):
            ChainId(topic, "any", 0)
    _, store = open_site()
    found = list(map_ahead(lambda chain: _read_end(store, chain), reading.list_chains(store, topic)))
    rows.show(found, _CHAINS, empty=f"The ledger has no chain{f' of the topic {topic}' if topic else ' yet'}.")
    problems = [row["problem"] for row in found if row["problem"]]
    for problem in problems:
        note(f"WRONG: {problem}")
    if problems:
        raise typer.Exit(1)


def _read_end(store: "ObjectStore", chain: "ChainId") -> dict[str, Any]:
    """Returns the end of a chain: the first offset without an outcome, and the last segment if there is one."""
    end, problem = None, None
    try:
        end = find_end(store, chain)
    except LedgerError as error:
        problem = error.message
    last = end.header if end else None
    return {
        "topic": chain.topic,
        "topic_id": chain.topic_id,
        "partition": chain.partition,
        "end": end.offset if end else None,
        "last_start": end.hint if end else None,
        "last_commit": last.created_at if last else None,
        "run_id": last.provenance.run_id if last else None,
        "closed": end is not None and end.is_closed,
        "problem": problem,
    }


@command(app, "new-chain")
def new_chain(
    partition: PartitionOption = None, topic: TopicOption = None, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Start a new chain for a log that was truncated or re-created under the same name.

    Changes only partitions whose log contradicts the ledger. Their chain is closed and stays unchanged, also in queries
    and audits. The log is read from its beginning; frames that were read before keep their frame_id, so they are not
    counted twice.
    """
    settings, store = open_site()
    settings = followed_topic(settings, topic)
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


@command(app, "accept-loss")
def accept_loss(
    partition: PartitionOption = None, topic: TopicOption = None, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Record offsets that Kafka deleted before they were read as a gap, so that their partitions continue.

    Changes only partitions that stopped for this reason, and records exactly the offsets that it shows. The audit
    keeps naming the loss.
    """
    settings, store = open_site()
    settings = followed_topic(settings, topic)
    logs = [log for log in read_log(settings) if not partition or log.partition in partition]
    progress = state.read_progress(store, settings.kafka_topics, logs)
    found = [one.stopped for one in progress if isinstance(one.stopped, state.ExpiredRecordsError)]
    for lost in found:
        note(lost.message)
    if found and not yes:
        confirm(f"Give up these offsets of {counted(len(found), 'partition')}?")
    done = [lost for lost in found if resume.accept_loss(store, lost, now=utc_now())]
    if as_json:
        gaps = [{"topic": at.topic, "partition": at.number, "from": gap.start, "to": gap.end}
                for at, gap in ((lost.log.at, lost.gap) for lost in done)]  # fmt: skip
        show_json({"topic": ",".join(settings.kafka_topics), "gaps": gaps})
    for lost in done:
        note(f"[{lost.gap.start}, {lost.gap.end}) of {lost.log.at} is now a gap; the next run continues after it.")
    if len(done) < len(found):
        raise TransientError("A chain has changed meanwhile.", next_step="run the command again")
    if not found:
        note(f"Nothing to do: no record of {', '.join(settings.kafka_topics)} expired before it was read.")


@command(app, "repair")
def repair(
    key: Annotated[
        str | None, typer.Option(help="Only the segment with this key, as in the error message. Default: all chains.")
    ] = None,
    dry_run: DryRunOption = False,
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
    gap for offsets that Kafka no longer has. The affected days are built again by the sensor keep_tables_current, or by
    `imgpipeline build`.
    """
    if without_kafka and key is None and not dry_run:
        message = "--without-kafka gives up offsets that Kafka may still have, in every chain."
        raise UsageError(message, next_step="give --key with one segment; --dry-run lists them all")
    settings, store = open_site()
    done = 0
    with progress_bar("Repairing", unit="offsets") as bar:

        def progress(outcomes: int) -> None:
            nonlocal done
            done += outcomes
            bar(done, 0)

        report = repair_ledger(
            settings, store, key=key, without_kafka=without_kafka, dry_run=dry_run, clock=utc_now, progress=progress
        )
    steps = [_step_json(step) for step in report.steps]
    if as_json:
        show_json({"steps": steps, "days": report.days, "blocked": report.blocked, "dry_run": dry_run})
    else:
        _show_repair(report, steps, dry_run=dry_run)
    for problem in report.blocked:
        note(f"NOT repaired: {problem}")
    if report.blocked:
        raise typer.Exit(1)


def _show_repair(report: "RepairReport", steps: Sequence[dict[str, Any]], *, dry_run: bool) -> None:
    columns = ("topic", "topic_id", "partition", "start", "end", "found", "source")
    if steps:
        show_records(steps, columns if dry_run else (*columns, "kept"))
    if report.days:
        note(
            f"{counted(len(report.days), 'day')} must be built again. The sensor keep_tables_current does so, or "
            f"`imgpipeline build --from {report.days[0]} --to {report.days[-1]}`."
        )
    if not report.steps:
        note("Nothing to repair: every segment can be read, and the chains have no holes.")
    elif dry_run:
        note("Nothing was changed. Run the command without --dry-run to repair this.")
    else:
        when = ", once these days are built" if report.days else ""
        note(f"Repaired. `imgpipeline audit --full` checks the whole ledger{when}.")


def _step_json(step: "RepairStep") -> dict[str, Any]:
    fields = record_of(step)
    return record_of(fields.pop("chain")) | fields
