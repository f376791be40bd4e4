"""The tables, views and macros of a query session that its snapshot does not create.

* `segments` and `dead_letters` show the ledger. Filling them reads every segment of the days in question.
* Tracks, events, counts at zones and lines, and the accuracy of counts are shown as stored, without newer segments. A
  day without them has no rows.
* Histogram views show `frame_stats` with one row per bin (`sql/frame_*.sql`).
* Macros follow a number back to its frames (the other files in `sql/`).

The first two kinds are created empty and filled when a query uses them.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date

from imgpipeline.contracts.keys import ChainId, segment_key
from imgpipeline.lake.days.summary_inputs import list_versions, stored_key
from imgpipeline.lake.schema.accuracy import ACCURACY
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.lake.schema.tables import DEAD_LETTERS, FRAME_STATS, HISTOGRAM_VIEWS, SEGMENTS, Table
from imgpipeline.lake.schema.tracks import TRACK_TABLES
from imgpipeline.lake.storage.cache import LakeCache
from imgpipeline.lake.storage.engine import Engine, all_rows, disk_errors, identifier, read_sql
from imgpipeline.ledger.bundles.reading import read_chain
from imgpipeline.ledger.days import index_buckets, read_days
from imgpipeline.ledger.dead_letters import LetterState, ReplayTrail
from imgpipeline.ledger.segment import Segment
from imgpipeline.objectstore import ObjectStore

_SETTLE = """
UPDATE dead_letters SET state = found.state, became = found.became
FROM (SELECT unnest(?) AS topic, unnest(?) AS topic_id, unnest(?) AS partition, unnest(?) AS kafka_offset,
             unnest(?) AS state, unnest(?) AS became) AS found
WHERE dead_letters.topic = found.topic AND dead_letters.topic_id = found.topic_id
  AND dead_letters.partition = found.partition AND dead_letters.kafka_offset = found.kafka_offset
"""
_DERIVED_TABLES = (*TRACK_TABLES, *EVENT_TABLES, *PLACE_TABLES, ACCURACY)
COUNTED_DETECTIONS = "working.counted_detections"
"""The detections that a number counts, without their segments, so it does not read the ledger."""
MACROS = ("counted_detections", "explain_label_counts", "explain_label_totals", "explain_frame_stats")
"""All macros, each after those that it uses."""
_PACKAGE = "imgpipeline.lake.sessions"
LEDGER_MACROS = tuple(name for name in MACROS if name.startswith("explain_"))
"""The macros for users. They read `segments`, which is filled when a query uses it."""


def create_ledger_tables(engine: Engine) -> None:
    """Creates `segments` and `dead_letters` without rows."""
    for table in (SEGMENTS, DEAD_LETTERS):
        engine.run(f"CREATE TABLE {table.name} ({table.typed_columns})")


def fill_ledger_tables(
    engine: Engine, store: ObjectStore, ends: Mapping[ChainId, int], days: Sequence[date] | None
) -> None:
    """Fills `segments` and `dead_letters`.

    Args:
        engine: DuckDB with the empty tables.
        ends: The fixed ends of the chains.
        days: Only segments that touch one of these days, and the dead letters of these days; None: all.

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
            engine.run(_load(table), {"file": str(path)})
            path.unlink()
    _say_what_became_of_them(engine, trail)
    if days is not None:
        engine.run("DELETE FROM dead_letters WHERE day IS NULL OR NOT list_contains(?, day)", [list(days)])


def _say_what_became_of_them(engine: Engine, trail: ReplayTrail) -> None:
    """Sets the columns `state` and `became` of `dead_letters`."""
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
    data |= data["chain"] | data["provenance"]
    row = {name: data[name] for name in SEGMENTS.names if name in data} | {
        "end_offset": header.end,
        "model_used": made.model_name,
        "key": segment_key(header.chain, header.start),
    }
    return json.dumps({"row": row}, ensure_ascii=False).encode() + b"\n"


def _letter_lines(segment: Segment) -> Iterator[bytes]:
    if not segment.header.dead_letters:
        return
    chain = segment.header.chain
    origin = {"topic": chain.topic, "topic_id": chain.topic_id, "partition": chain.partition}
    for line in segment.body.splitlines():
        # Nearly all lines are frames; parsing them would take most of the time.
        letter = json.loads(line).get("dead_letter") if b'"dead_letter"' in line else None
        if letter is not None:
            yield (
                json.dumps({"row": origin | {"kafka_offset": letter["offset"]} | letter}, ensure_ascii=False).encode()
                + b"\n"
            )


def _load(table: Table) -> str:
    selected = ", ".join(f"row.{identifier(name)}" for name in table.names)
    return (
        f"INSERT INTO {table.name} SELECT {selected} FROM read_json($file, format = 'newline_delimited', "  # noqa: S608 - own names
        f"columns = {{row: 'STRUCT({table.typed_columns})'}}) AS read"
    )


def create_derived_tables(engine: Engine) -> None:
    """Creates the tables of tracks, events, zones, lines and accuracy without rows."""
    for table in _DERIVED_TABLES:
        engine.run(f"CREATE TABLE {table.name} ({table.typed_columns})")


def asks_for_derived(sql: str) -> bool:
    """Tells whether a query may use a table of tracks, events, zones, lines or accuracy."""
    lowered = sql.lower()
    return any(table.name in lowered for table in _DERIVED_TABLES)


def fill_derived_tables(
    engine: Engine,
    store: ObjectStore,
    cache: LakeCache,
    is_wanted: Callable[[date], bool],
    *,
    tables: Iterable[Table] = _DERIVED_TABLES,
    listed: Mapping[str, str] | None = None,
) -> None:
    """Replaces the empty tables with views of the stored ones.

    Args:
        engine: DuckDB with the empty tables.
        is_wanted: Tells whether a UTC day is read.
        tables: Only these.
        listed: The e-tags of the stored ones by key; None: those that the store lists.

    Raises:
        PermanentError: The local disk cannot be used.
        TransientError: The store does not answer.
    """
    for table in tables:
        queries = []
        for day, e_tag in sorted(list_versions(store, table.name, listed).items()):
            path = engine.folder / stored_key(table.name, day)
            if is_wanted(day) and cache.link(stored_key(table.name, day), e_tag, path):
                queries.append(all_rows(path, day=day))
        if queries:
            engine.run(f"DROP TABLE main.{table.name}")
            engine.run(f"CREATE VIEW main.{table.name} AS {' UNION ALL BY NAME '.join(queries)}")
    cache.trim()


def create_histogram_views(engine: Engine) -> None:
    """Creates all histogram views. Call it before the view `frame_stats` is created.

    DuckDB plans a view when it is created and again when it is read. Over an empty table with the columns of
    `frame_stats` the first plan is cheap. Over the view itself, these plans are a quarter of the cost of a session.
    """
    engine.run(f"CREATE TABLE {FRAME_STATS.name} ({FRAME_STATS.typed_columns})")
    for table in HISTOGRAM_VIEWS:
        engine.run(f"CREATE VIEW {table.name} AS {histogram_sql(table.name)}")
    engine.run(f"DROP TABLE {FRAME_STATS.name}")


def histogram_sql(name: str) -> str:
    """Returns the query of a histogram view."""
    return read_sql(_PACKAGE, name)


def create_macros(engine: Engine) -> None:
    """Creates all macros."""
    for name in MACROS:
        engine.run(read_sql(_PACKAGE, name))
