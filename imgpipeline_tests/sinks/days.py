"""Days in a store that can be replaced and removed, and the rows that a sink should have of them."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from imgpipeline.contracts.keys import ChainId, chain_prefix
from imgpipeline.contracts.outcomes import Outcome
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.days.summary_inputs import open_tables
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline.sinks.protocol import SinkTable
from imgpipeline_tests.daily.builds import build_summary
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import CHAIN, DAY, NOON, write_chain

Row = dict[str, Any]


def day_number(number: int) -> date:
    """Return a day; number 0 is the one of most tests."""
    return date.fromordinal(DAY.toordinal() + number)


def frames_of(day: date, count: int, labels: Iterable[str] = ("car", "person"), **changes: Any) -> list[Outcome]:
    """Return frames with the same detections each."""
    return [replace(seen(offset, labels, day, **changes), partition=day.day) for offset in range(count)]


def put_day(store: ObjectStore, day: date, outcomes: list[Outcome]) -> None:
    """Store a day, in place of the one that was there."""
    remove_day(store, day)
    if outcomes:
        write_chain(store, outcomes, chain=_chain_of(day))
    rebuild_day(store, day, now=NOON)
    build_summary(store, "label_counts", day, settings=load_settings(), now=NOON)


def remove_day(store: ObjectStore, day: date) -> None:
    """Remove ledger and tables of a day."""
    chain = chain_prefix(_chain_of(day))
    for info in list(store.list_objects()):
        if info.key.startswith(chain) or f"day={day}" in info.key or f"/{day}/" in info.key:
            store.delete(info.key)


def _chain_of(day: date) -> ChainId:
    return ChainId(CHAIN.topic, CHAIN.topic_id, day.day)


def wanted_rows(store: ObjectStore, table: SinkTable, day: date) -> list[Row]:
    """Return the rows that the store has for a sink."""
    with open_tables(store, table.stored, day, memory=None) as opened:
        found = opened.engine.connection.execute(table.query)
        names = [column[0] for column in found.description or ()]
        return in_order(dict(zip(names, row, strict=True)) for row in found.fetchall())


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows in one order, with times in UTC."""
    shown = [{name: _shown(value) for name, value in row.items()} for row in rows]
    return sorted(shown, key=lambda row: [str(row[name]) for name in sorted(row)])


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else value
