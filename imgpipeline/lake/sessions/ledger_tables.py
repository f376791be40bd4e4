"""The ledger as tables of a query session: `segments` and `dead_letters`.

They are not stored as Parquet. Filling them reads every segment of the days in question, so they are filled only when a
query uses them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.lake.schema import DEAD_LETTERS, SEGMENTS, Column, Table
from imgpipeline.lake.storage.engine import Engine, disk_errors, identifier
from imgpipeline.ledger import Segment, index_buckets, read_chain, read_days
from imgpipeline.ledger.dead_letters import LetterState, ReplayTrail
from imgpipeline.objectstore import ObjectStore

_LONGEST_LINE_BYTES = 2**26
"""A dead letter's raw record has a limit in the settings; this is far above its default."""

_SETTLE = """
UPDATE dead_letters SET state = found.state, became = found.became
FROM (SELECT unnest(?) AS topic, unnest(?) AS topic_id, unnest(?) AS partition, unnest(?) AS kafka_offset,
             unnest(?) AS state, unnest(?) AS became) AS found
WHERE dead_letters.topic = found.topic AND dead_letters.topic_id = found.topic_id
  AND dead_letters.partition = found.partition AND dead_letters.kafka_offset = found.kafka_offset
"""


def create_ledger_tables(engine: Engine) -> None:
    """Creates both tables, empty."""
    for table in (SEGMENTS, DEAD_LETTERS):
        columns = ", ".join(f"{identifier(column.name)} {column.duckdb_type}" for column in table.columns)
        engine.run(f"CREATE TABLE {table.name} ({columns})")


def fill_ledger_tables(
    engine: Engine, store: ObjectStore, ends: Mapping[ChainId, int], days: Sequence[date] | None
) -> None:
    """Fills both tables.

    Args:
        engine: DuckDB with the empty tables.
        store: The object store.
        ends: Ends of the chains, fixed before.
        days: Only segments that touch one of these, and dead letters listed under them; None: all.

    Raises:
        LedgerError: A segment cannot be read.
        PermanentError: The local disk is full.
    """
    segments = _all(store, ends) if days is None else _of_days(store, ends, days)
    trail = ReplayTrail()
    headers, letters = engine.folder / "headers.jsonl", engine.folder / "letters.jsonl"
    with disk_errors(engine.folder):
        with headers.open("wb") as header_file, letters.open("wb") as letter_file:
            for segment in segments:
                header_file.write(_header_line(segment))
                letter_file.writelines(_letter_lines(segment))
                trail.add(segment)
        for table, path in ((SEGMENTS, headers), (DEAD_LETTERS, letters)):
            engine.run(_load(table), {"file": str(path), "longest": _LONGEST_LINE_BYTES})
            path.unlink()
    say_what_became_of_them(engine, trail)
    if days is not None:
        engine.run("DELETE FROM dead_letters WHERE day IS NULL OR NOT list_contains(?, day)", [list(days)])


def say_what_became_of_them(engine: Engine, trail: ReplayTrail) -> None:
    """Fills in state and replay of the rows of `dead_letters`."""
    trail.settle()
    engine.run("UPDATE dead_letters SET state = ?", [LetterState.OPEN.value])
    rows = [
        (at.chain.topic, at.chain.topic_id, at.chain.partition, at.offset, state.value, str(became) if became else None)
        for at in trail.members()
        for state, became in [trail.state_of(at)]
    ]
    if rows:
        engine.run(_SETTLE, [*map(list, zip(*rows, strict=True))])


def _all(store: ObjectStore, ends: Mapping[ChainId, int]) -> Iterator[Segment]:
    for chain, end in sorted(ends.items()):
        yield from read_chain(store, chain, 0, end)


def _of_days(store: ObjectStore, ends: Mapping[ChainId, int], days: Iterable[date]) -> Iterator[Segment]:
    wanted = sorted(set(days))
    buckets = [bucket for day in wanted for bucket in index_buckets(store, day)]
    return read_days(store, {day: {} for day in wanted}, ends, buckets=buckets)


def _header_line(segment: Segment) -> bytes:
    header, made = segment.header, segment.header.provenance
    data = header.to_json()
    row = {name: data[name] for name in SEGMENTS.names if name in data} | {
        "notices": 0,
        **data["counts"],
        "end_offset": header.end,
        "model_used": made.model_name,
        "model_sha256": made.model_sha256,
        "key": segment_key(header.chain, header.start),
    }
    return json.dumps({"row": row}, ensure_ascii=False).encode() + b"\n"


def _letter_lines(segment: Segment) -> Iterator[bytes]:
    if not segment.header.dead_letters:
        return
    chain = segment.header.chain
    origin = {"topic": chain.topic, "topic_id": chain.topic_id, "partition": chain.partition}
    for line in segment.body.splitlines():
        # Nearly all lines are frames; parsing them would take longer than all else here.
        letter = json.loads(line).get("dead_letter") if b'"dead_letter"' in line else None
        if letter is not None:
            yield (
                json.dumps({"row": origin | {"kafka_offset": letter["offset"]} | letter}, ensure_ascii=False).encode()
                + b"\n"
            )


def _load(table: Table) -> str:
    fields = ", ".join(_field(column) for column in table.columns)
    selected = ", ".join(f"row.{identifier(name)}" for name in table.names)
    return (
        f"INSERT INTO {table.name} SELECT {selected} FROM read_json($file, format = 'newline_delimited', "  # noqa: S608 - own names
        f"maximum_object_size = $longest, columns = {{row: 'STRUCT({fields})'}}) AS read"
    )


def _field(column: Column) -> str:
    return f"{identifier(column.name)} {column.duckdb_type}"
