"""`imgpipeline status` and `audit`: how far the ledger lags behind Kafka, and whether each offset has one outcome."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from imgpipeline.cli.options import STORE_PATIENCE_S, JsonOption, open_site
from imgpipeline.cli.output import note, progress_bar, show_json, show_records
from imgpipeline.contracts.records import LogRange, Partition
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.detect.state import PartitionProgress, read_progress, read_state
from imgpipeline.errors import ImgpipelineError
from imgpipeline.events.alerts.audit import AlertAudit, audit_alerts
from imgpipeline.lake.quality.audit import audit as audit_ledger
from imgpipeline.lake.quality.audit_report import AuditReport
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.sinks.exporting import read_statuses
from imgpipeline.stream.fetch import find_oldest
from imgpipeline.stream.log import read_logs

_STATUS = (
    "topic", "topic_id", "partition", "log_end", "ledger_end", "lag", "oldest_unread", "last_commit",
)  # fmt: skip


def status(as_json: JsonOption = False) -> None:
    """Show log end, ledger end, lag, oldest unread record and last commit of each topic partition.

    The lag is a number of offsets. It is 0 if only transaction markers have no outcome yet.
    """
    settings = load_settings()
    store = open_store(settings, patience_s=STORE_PATIENCE_S)
    logs = read_logs(settings)
    progress = read_progress(store, settings.kafka_topics, logs.ranges)
    oldest = find_oldest(settings, {each.log: each.offset for each in progress if each.log})
    rows = [_status_of(each, oldest) for each in progress]
    if as_json:
        unreadable = {topic: why.message for topic, why in logs.unreadable.items()}
        show_json({"topic": ",".join(settings.kafka_topics), "partitions": rows, "unreadable": unreadable})
        return
    show_records(rows, _STATUS)
    problems = [*map(str, logs.unreadable.values()), *(row["problem"] for row in rows if row["problem"])]
    problems += read_state(store).problems(utc_now()) if any(row["lag"] for row in rows) else []
    sinks = [(sink.name, sink.problem(utc_now())) for sink in read_statuses(store, settings)]
    problems += [f"sink {name}: {problem}" for name, problem in sinks if problem]
    for why in dict.fromkeys(problems):
        note(why)


def _status_of(found: PartitionProgress, oldest: Mapping[Partition, datetime]) -> dict[str, Any]:
    """Returns the row of a partition. Without a current log, its ends, the lag and the oldest record are None.

    With a damaged last segment, the end of the ledger, the lag and the oldest record are None.
    """
    log, end = found.log, found.end
    is_known = end is None or end.damage is None
    since = oldest.get(log.at) if log and is_known else None
    lag = max(0, log.log_end - found.offset) if log and since else 0
    return {
        "topic": found.chain.topic,
        "topic_id": found.chain.topic_id,
        "partition": found.chain.partition,
        "current": log is not None,
        "log_start": log.log_start if log else None,
        "log_end": log.log_end if log else None,
        "ledger_end": found.offset if is_known else None,
        "lag": lag if log and is_known else None,
        "oldest_unread": since,
        "problem": str(found.stopped) if found.stopped else None,
        "last_commit": end.header.created_at if end and end.header else None,
    }


_WAITING = {"not built": "whose tables are not built yet", "partly built": "some of whose tables are not built yet"}
"""Why days in these states were not compared."""
_BUILD = "The schedule `nightly_rebuild` or the job `rebuild_days` builds them."


_PARTITIONS = ("topic", "partition", "ledger_end", "log_end", "frames", "gated", "dead_letters", "notices", "gaps",
               "missing", "overlapping")  # fmt: skip
_DAYS = ("day", "state", "frames_in_ledger", "frames_in_parquet", "detections_in_ledger", "detections_in_parquet",
         "dead_letters_in_ledger", "dead_letters_in_parquet", "duplicates", "stale")  # fmt: skip


def audit(
    full: Annotated[bool, typer.Option("--full", help="Read everything again, not only new data.")] = False,
    allow_gaps: Annotated[bool, typer.Option("--allow-gaps", help="Do not fail if offsets expired unread.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that every offset has exactly one outcome and that day tables and summaries agree with the ledger.

    Also compares alerts with the events of their days. Late frames and new rules can change events after an alert, so a
    difference is listed with the next step, but is not a failure.

    Exits with status 1 if anything is missing, overlaps or disagrees. Lag does not count as missing. Days that wait for
    their first build are listed as not compared. A store with only imports does not need Kafka.
    """
    settings, store = open_site()
    unreadable: list[ImgpipelineError] = []
    with progress_bar("Auditing", unit="offsets") as progress:
        report = audit_ledger(
            store,
            lambda: _read_logs(settings, unreadable),
            full=full,
            allow_gaps=allow_gaps or settings.allow_gaps,
            progress=progress,
            now=utc_now(),
            memory=settings.duckdb_memory,
        )
    alerts = audit_alerts(store, settings, now=utc_now())
    is_ok = report.ok and not alerts.problems
    if as_json:
        show_json({**report.to_json(), "ok": is_ok, "alerts": alerts})
    else:
        _show(report.to_json())
    for line in (*_findings(report, alerts), *_not_compared(report, unreadable)):
        note(line)
    note(_verdict(report, is_ok=is_ok))
    if not is_ok:
        raise typer.Exit(1)


def _read_logs(settings: Settings, unreadable: list[ImgpipelineError]) -> "Sequence[LogRange]":
    """Returns the readable logs; adds the reasons why others cannot be read."""
    logs = read_logs(settings)
    unreadable.extend(logs.unreadable.values())
    return logs.ranges


def _findings(report: "AuditReport", alerts: "AlertAudit") -> Iterator[str]:
    """Yields one line for each problem, difference and ignored object."""
    for problem in (*report.problems, *alerts.problems):
        yield f"WRONG: {problem}"
    for difference in alerts.differences:
        yield f"DIFFERS: {difference}"
    for day, why in alerts.not_compared.items():
        yield f"Alerts not compared: {day}, {why}."
    if alerts.changed_rules:
        left_out = counted(alerts.changed_rules, "event")
        yield f"Alerts not compared: {left_out}, whose rules were not watched or have changed since."
    if alerts.newer_alerts:
        yield f"Alerts not compared: {counted(alerts.newer_alerts, 'alert')} newer than the tables of the day."
    if report.stray_keys:
        strays = counted(len(report.stray_keys), "other object")
        yield f"Ignored below metadata/: {strays}, such as {report.stray_keys[0]}."


def _not_compared(report: "AuditReport", unreadable: Sequence[ImgpipelineError]) -> Iterator[str]:
    """Yields one line for each log and table that was not compared with the ledger."""
    for unread in unreadable:
        yield f"Log not compared: {unread}"
    for why, chains in report.without_log.items():
        named = ", ".join(sorted({chain.topic for chain in chains}))
        yield f"Log not compared: {counted(len(chains), 'chain')} of {named}: {why}."
    for state, what in _WAITING.items():
        days = [found.day for found in report.days if found.state == state]
        if days:
            span = f"{days[0]} to {days[-1]}" if len(days) > 1 else f"{days[0]}"
            yield f"Tables not compared: {counted(len(days), 'day')} ({span}), {what}. {_BUILD}"


def _verdict(report: "AuditReport", *, is_ok: bool) -> str:
    if not is_ok:
        return "The audit is NOT ok."
    waiting = len(report.not_compared)
    if not waiting:
        return "The audit is ok."
    return f"The audit is ok, but {waiting:,} of {counted(len(report.days), 'day')} could not be compared yet."


def _show(report: Mapping[str, Any]) -> None:
    show_records(report["partitions"], _PARTITIONS)
    if report["days"]:
        show_records(report["days"], _DAYS)
