"""`imgpipeline status` and `audit`: how far the ledger lags behind Kafka, and whether each offset has one outcome."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.options import STORE_PATIENCE_S, JsonOption, open_site
from imgpipeline.cli.output import Columns, note, progress_bar, reasons, show_json, show_records
from imgpipeline.contracts.keys import FAN_OUT_OFFSETS
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ImgpipelineError
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.contracts.keys import ChainId
    from imgpipeline.contracts.records import LogRange
    from imgpipeline.events.alerts.audit import AlertAudit
    from imgpipeline.lake.quality.audit_report import AuditReport
    from imgpipeline.ledger.reading import ChainEnd
    from imgpipeline.ledger.segment import Segment
    from imgpipeline.objectstore import ObjectStore


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """Log and ledger of one topic partition."""

    topic: str
    topic_id: str
    partition: int
    current: bool
    """Whether the broker still has this incarnation of the topic."""
    log_start: int | None
    """First offset that Kafka still has; None if not current."""
    log_end: int | None
    """Last stable offset of Kafka; None if not current."""
    ledger_end: int
    """First offset without an outcome."""
    lag: int | None
    """Offsets without an outcome, with transaction markers; 0 if no record is among them. None if not current."""
    oldest_unread: datetime | None
    """Kafka's time of the oldest record without an outcome, UTC; None if none waits."""
    problem: str | None
    """Why the partition stops; None if it does not."""
    last_commit: datetime | None
    """When the last segment was written, UTC; None without a segment."""
    dead_letters: int
    """Dead letters from `counted_from` to the ledger's end."""
    counted_from: int
    """First offset of the count of dead letters; 0: all are counted."""


_STATUS: Columns = (
    ("topic", lambda row: row["topic"] if row["current"] else f"{row['topic']} ({row['topic_id']}, gone)"),
    ("partition", lambda row: str(row["partition"])),
    "log_end", "ledger_end", "lag", "oldest_unread", "last_commit", "dead_letters",
)  # fmt: skip


def status(
    segments: Annotated[
        int,
        typer.Option("--segments", min=1, help="Count dead letters in this many latest segments of each partition."),
    ] = 1_000,
    as_json: JsonOption = False,
) -> None:
    """Show log end, ledger end, lag, last commit and dead letters of each topic partition."""
    from imgpipeline.detect.state import read_state
    from imgpipeline.objectstore import open_store
    from imgpipeline.stream.log import read_logs

    settings = load_settings()
    store = open_store(settings, patience_s=STORE_PATIENCE_S)
    # Read the ledger's ends first, so that none is beyond the end of its log.
    ends = _ledger_ends(store, settings.kafka_topics)
    logs = read_logs(settings)
    rows = list(_rows(store, ends, logs.ranges, segments, settings))
    if as_json:
        unreadable = {topic: why.message for topic, why in logs.unreadable.items()}
        partitions = [asdict(row) for row in rows]
        show_json({"topic": ",".join(settings.kafka_topics), "partitions": partitions, "unreadable": unreadable})
        return
    show_records([asdict(row) for row in rows], _STATUS)
    problems = [*map(str, logs.unreadable.values()), *(row.problem for row in rows if row.problem)]
    problems += read_state(store).problems(utc_now()) if any(row.lag for row in rows) else []
    for why in dict.fromkeys(problems):
        note(why)
    if any(row.counted_from for row in rows):
        note(f"Dead letters are counted in the last {counted(segments, 'segment')} of a partition; see --segments.")


def _ledger_ends(store: "ObjectStore", topics: Sequence[str]) -> "dict[ChainId, ChainEnd]":
    from imgpipeline.ledger.reading import find_ends, list_chains

    return find_ends(store, [chain for topic in topics for chain in list_chains(store, topic)])


def _rows(
    store: "ObjectStore",
    ends: "dict[ChainId, ChainEnd]",
    logs: "Sequence[LogRange]",
    segments: int,
    settings: Settings,
) -> Iterator[PartitionStatus]:
    from imgpipeline.detect.state import find_expired
    from imgpipeline.ledger.chain import current_chain
    from imgpipeline.stream.fetch import find_oldest

    closed = {chain for chain, end in ends.items() if end.is_closed}
    by_chain = {current_chain(log.chain, closed): log for log in logs}
    gone = sorted(chain for chain in ends if chain not in by_chain)
    reached = {log: ends[chain].offset if chain in ends else 0 for chain, log in by_chain.items()}
    oldest = find_oldest(settings, reached)
    for chain in [*by_chain, *gone]:
        log, end = by_chain.get(chain), ends.get(chain)
        offset = end.offset if end else 0
        headers = [segment.header for segment in islice(_latest_segments(store, chain, offset), segments)]
        yield PartitionStatus(
            topic=chain.topic,
            topic_id=chain.topic_id,
            partition=chain.partition,
            current=log is not None,
            log_start=log.log_start if log else None,
            log_end=log.log_end if log else None,
            ledger_end=offset,
            lag=(log.log_end - offset if log.at in oldest else 0) if log else None,
            oldest_unread=oldest.get(log.at) if log else None,
            problem=str(why) if log and end and (why := find_expired(log, end)) else None,
            last_commit=end.header.created_at if end and end.header else None,
            dead_letters=sum(header.dead_letters for header in headers),
            counted_from=headers[-1].start if headers else 0,
        )


def _latest_segments(store: "ObjectStore", chain: "ChainId", end: int) -> "Iterator[Segment]":
    """Yields the segments of a chain from its end backwards. Lists and reads only what the caller takes."""
    from imgpipeline.ledger.reading import list_segments, read_segments

    while end > 0:
        first = (end - 1) // FAN_OUT_OFFSETS * FAN_OUT_OFFSETS
        yield from read_segments(store, chain, reversed(list_segments(store, chain, first, end)))
        end = first


_WAITING = {"not built": "whose tables are not built yet", "partly built": "some of whose tables are not built yet"}
"""Why days in these states were not compared."""
_BUILD = "The schedule `nightly_rebuild` or the job `rebuild_days` builds them."


_PARTITIONS: Columns = (
    "topic", ("partition", lambda row: str(row["partition"])), "ledger_end",
    ("log end", lambda row: row["log_end"] if row["log_compared"] else "not compared"),
    "frames", "gated", "dead_letters", "notices", ("gaps", lambda row: reasons(row["gaps"])), "missing", "overlapping",
)  # fmt: skip
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
    from imgpipeline.events.alerts.audit import audit_alerts
    from imgpipeline.lake.quality.audit import audit as audit_ledger

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
        show_json({**report.to_json(), "ok": is_ok, "alerts": alerts.to_json()})
    else:
        _show(report.to_json())
    for line in (*_findings(report, alerts), *_not_compared(report, unreadable)):
        note(line)
    note(_verdict(report, is_ok=is_ok))
    if not is_ok:
        raise typer.Exit(1)


def _read_logs(settings: Settings, unreadable: list[ImgpipelineError]) -> "Sequence[LogRange]":
    """Returns the readable logs; adds the reasons why others cannot be read."""
    from imgpipeline.stream.log import read_logs

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
