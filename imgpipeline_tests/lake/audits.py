"""A lake to audit, and audits of it."""

import functools
from typing import Any

from imgpipeline.contracts.keys import ChainId, summary_key
from imgpipeline.contracts.outcomes import Gap, GapReason
from imgpipeline.contracts.records import LogRange
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.audit import AuditReport, audit
from imgpipeline.ledger.chain import ChainWriter
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.samples import again, day_outcomes, gated
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, dead_letter, write_chain, writer
from imgpipeline_tests.objectstore.stores import copy_objects

SUMMARY = summary_key("label_counts", DAY)


def run_audit(store: ObjectStore, *logs: LogRange, **options: Any) -> AuditReport:
    """Audit a store whose broker has these logs."""
    return audit(store, lambda: logs, now=NOON, **options)


def log_range(end: int, start: int = 0, chain: ChainId = CHAIN) -> LogRange:
    """Return the log of a chain."""
    return LogRange(chain.topic, chain.topic_id, chain.partition, start, end)


def build(store: ObjectStore) -> None:
    """Build the day's tables and its summary."""
    rebuild_day(store, DAY, now=NOON)
    build_summary(store, "label_counts", DAY, settings=Settings(), now=NOON)


def build_all(store: ObjectStore) -> ChainWriter:
    """Write and build a day with duplicates, a gated frame, a dead letter and a gap; return the chain's writer."""
    copy_objects(_built(), store)
    return writer(store)


@functools.cache
def _built() -> ObjectStore:
    store = open_memory_store()
    write_chain(
        store,
        day_outcomes(0, 6),
        [dead_letter(6), gated(7), again(8, of=7, labels=["dog"]), again(9, of=1, labels=["dog"])],
        [Gap(10, 12, GapReason.MARKER)],
    )
    build(store)
    return store


def is_current(report: AuditReport) -> bool:
    """Return whether all tables and summaries are up to date with the ledger."""
    built = {(summary.name, summary.day) for summary in report.summaries if not summary.stale}
    names = {summary.name for summary in report.summaries} or {""}
    return not any(day.stale for day in report.days) and all((n, d.day) in built for n in names for d in report.days)
