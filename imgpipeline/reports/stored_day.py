"""Opens a day for the queries of its report: its stored tables or, where they are incomplete, a query session.

The numbers are read from the day's summaries, so that a report shows what `imgpipeline summary` shows.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from imgpipeline.contracts.keys import ChainId, day_table_key
from imgpipeline.contracts.records import RecordReference
from imgpipeline.contracts.times import find_timezone
from imgpipeline.errors import TransientError
from imgpipeline.lake.days.day_rows import WORKING
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.query.books import BookEntry, SessionState, read_entries
from imgpipeline.lake.schema.tables import DAY_TABLES, DEAD_LETTERS, STORED_DEAD_LETTERS
from imgpipeline.lake.sessions.local_time import LocalDay
from imgpipeline.lake.sessions.session import Answer, create_summary_views, open_lake, query_errors
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.lake.sessions.tables import create_derived_tables, say_what_became_of_them, show_derived_table
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import Engine, all_rows, lock, open_engine
from imgpipeline.lake.storage.manifest import have_equal_ends, parse_footer
from imgpipeline.ledger.dead_letters import ReplayTrail
from imgpipeline.objectstore import ObjectStore
from imgpipeline.reports.figures import (
    DayHours,
    Figures,
    FrameHours,
    Histogram,
    LabelFigures,
    ModelUse,
    SourceBooks,
    SourceFigures,
)
from imgpipeline.reports.inputs import FOUND_TABLES, ReportInputs
from imgpipeline.settings import Settings

_REPLAYS = f"""
SELECT source_kafka_topic, source_kafka_topic_id, source_kafka_partition, source_kafka_offset, replay_of, false,
       processing_timestamp
FROM frames WHERE replay_of IS NOT NULL
UNION ALL
SELECT topic, topic_id, partition, kafka_offset, replay_of, true, coalesce("timestamp", make_timestamptz(0))
FROM {SHOWN_LETTERS} WHERE replay_of IS NOT NULL
"""  # noqa: S608 - own names
_Bin = TypeVar("_Bin")

_LABEL_HOURS = """
SELECT label, hour, count, distinct_frames, first_seen, last_seen, mean_confidence::DOUBLE,
       min_confidence::DOUBLE, max_confidence::DOUBLE, source
FROM label_counts ORDER BY label, hour, source
"""
_FRAME_HOURS = """
SELECT source, hour, processed, gated, dead_letters, coalesce(size_bytes, 0), sizes, brightness, sharpness,
       latency, dimensions, observed_s
FROM frame_stats
"""
"""Read once, because a session computes the summary for each query."""
_SOURCES = """
SELECT source, frames, processed, gated, dead_letters, first_seen, last_seen, active_hours, longest_pause_s::DOUBLE,
       size_bytes
FROM source_activity ORDER BY frames DESC, dead_letters DESC, source
"""
_MODELS = """
SELECT model_used, coalesce(model_sha256, '') AS sha256, confidence_threshold, nms_threshold, count(*),
       min("timestamp"), max("timestamp"), max(processing_timestamp)
FROM frames WHERE status = 'processed' AND model_used <> ''
GROUP BY ALL ORDER BY min("timestamp"), model_used, sha256, confidence_threshold, nms_threshold
"""


class DayQueries(Protocol):
    """Answers queries about one day: its stored tables, or a query session."""

    def query(self, sql: str) -> Answer:
        """Runs one query."""


@dataclass(frozen=True, slots=True)
class StoredDay:
    """The stored tables of one day, without reading the ledger."""

    engine: Engine
    """DuckDB with the day tables, their summaries, dead letters with their state, and `FOUND_TABLES`."""

    def query(self, sql: str) -> Answer:
        """Runs one query; raises PermanentError if this machine lacks the memory or disk space for it."""
        with query_errors():
            answer = self.engine.connection.execute(sql)
            return Answer(tuple(column[0] for column in answer.description or ()), answer.fetchall())


@contextlib.contextmanager
def open_day(
    store: ObjectStore, settings: Settings, inputs: ReportInputs, cache_dir: Path | None = None
) -> Iterator[DayQueries]:
    """Opens a day: the stored tables of a UTC day if the ledger has nothing newer, otherwise a query session.

    Yields:
        Answers queries about the day.

    Raises:
        DamagedObjectError: A table is not a Parquet file of this project.
        LedgerError: A segment newer than the tables cannot be read.
        PermanentError: The local disk cannot be used.
        TransientError: The store does not answer, or a build of the day is under way.
    """
    if inputs.manifests and not inputs.behind and not inputs.parts:
        with _open_stored_day(store, settings, inputs, cache_dir) as day:
            yield day
        return
    local_day = LocalDay(inputs.day, find_timezone(inputs.timezone)) if inputs.parts else None
    with open_lake(store, settings=settings, cache_dir=cache_dir, days=[inputs.day], local_day=local_day) as session:
        yield session


@contextlib.contextmanager
def _open_stored_day(
    store: ObjectStore, settings: Settings, inputs: ReportInputs, cache_dir: Path | None
) -> Iterator[StoredDay]:
    memory = settings.duckdb_memory
    with open_cache(store, cache_dir) as (folder, cache), open_engine(folder, memory=memory) as engine:
        engine.run(f"CREATE SCHEMA {WORKING}")
        manifests = []
        for table in DAY_TABLES:
            key = day_table_key(table.name, inputs.day)
            path = folder / key
            if cache.link(key, inputs.e_tags[key], path) is None:
                raise _under_way(inputs)
            manifests.append(parse_footer(path, key))
            name = SHOWN_LETTERS if table is STORED_DEAD_LETTERS else table.name
            engine.run(f"CREATE VIEW {name} AS {all_rows(path, day=inputs.day)}")
        if not have_equal_ends(manifests):
            raise _under_way(inputs)
        create_derived_tables(engine)
        for table in FOUND_TABLES:
            e_tag = inputs.e_tags.get(stored_key(table.name, inputs.day))
            show_derived_table(engine, cache, table, {inputs.day: e_tag} if e_tag else {})
        cache.trim()
        create_summary_views(engine, settings)
        _create_dead_letters(engine)
        lock(engine)
        yield StoredDay(engine)


def _create_dead_letters(engine: Engine) -> None:
    """Creates the table of dead letters with their outcome, as far as the day's own frames and dead letters tell."""
    said = "NULL::VARCHAR AS state, NULL::VARCHAR AS became"
    engine.run(f"CREATE TABLE {DEAD_LETTERS.name} AS SELECT *, {said} FROM {SHOWN_LETTERS}")  # noqa: S608 - own names
    trail = ReplayTrail()
    for topic, topic_id, partition, offset, replay_of, is_letter, at in engine.run(_REPLAYS):
        trail.note(RecordReference(ChainId(topic, topic_id, partition), offset), replay_of, is_letter, at)
    say_what_became_of_them(engine, trail)


def _under_way(inputs: ReportInputs) -> TransientError:
    return TransientError(
        f"The report of {inputs.day} cannot be built yet: the day's tables changed while they were read.",
        next_step="try again; a build of the day is under way",
    )


def read_figures(session: DayQueries, clock: DayHours) -> Figures:
    """Reads the numbers of a day.

    Raises:
        PermanentError: This machine lacks the memory or disk space.
    """
    stats = [_placed(row, clock) for row in session.query(_FRAME_HOURS).rows]
    by_source = _by_source(stats)
    label_hours = [_placed(row, clock) for row in session.query(_LABEL_HOURS).rows]
    hours = len(clock.names)
    labels_of = _labels_of(label_hours)
    return Figures(
        clock=clock,
        labels=_labels(label_hours, hours),
        hours=_frame_hours(stats, hours),
        sources=tuple(_source(row, by_source, labels_of, hours) for row in session.query(_SOURCES).rows),
        size_bytes=sum(row[5] for row in stats),
        sizes=_histogram(row[6] for row in stats),
        brightness=_histogram(row[7] for row in stats),
        sharpness=_histogram(row[8] for row in stats),
        latency=_histogram(row[9] for row in stats),
        dimensions=_dimensions(row[10] for row in stats),
        models=tuple(ModelUse(*row) for row in session.query(_MODELS).rows),
        books=_books(read_entries(session)),
        notices=session.query("SELECT count(*) FROM notices").rows[0][0],
        observed_s=_observed(stats),
    )


def _observed(rows: Iterable[Sequence[Any]]) -> float | None:
    seconds = [row[11] for row in rows if row[11] is not None]
    return round(sum(seconds), 6) if seconds else None


def _books(entries: Iterable[BookEntry]) -> tuple[SourceBooks, ...]:
    """Sums up the sessions of each source with accounts."""
    found: dict[str, list[BookEntry]] = defaultdict(list)
    for entry in entries:
        if entry.source and entry.session is not None:
            found[entry.source].append(entry)
    return tuple(_books_of(source, several) for source, several in sorted(found.items()))


def _books_of(source: str, entries: Sequence[BookEntry]) -> SourceBooks:
    dropped: Counter[str] = Counter()
    for entry in entries:
        dropped.update(entry.dropped)
    return SourceBooks(
        source=source,
        sessions=len({entry.session for entry in entries}),
        open_sessions=len({entry.session for entry in entries if entry.state is SessionState.OPEN}),
        received=sum(entry.received or 0 for entry in entries),
        announced=sum(entry.announced or 0 for entry in entries),
        in_tables=sum(entry.in_ledger for entry in entries),
        gated=sum(entry.gated or 0 for entry in entries),
        dropped=dict(dropped),
        failed=sum(entry.failed or 0 for entry in entries),
        unaccounted=sum(abs(entry.unaccounted) for entry in entries),
    )


def _placed(row: Sequence[Any], clock: DayHours) -> Sequence[Any]:
    """Returns a row with the position of its hour instead of the start."""
    return (row[0], None if row[1] is None else clock.place(row[1]), *row[2:])


def _labels(rows: Iterable[Sequence[Any]], hours: int) -> tuple[LabelFigures, ...]:
    found: dict[str, list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    labels = [_label(label, several, hours) for label, several in found.items()]
    return tuple(sorted(labels, key=lambda label: (-label.total, label.label)))


def _label(label: str, rows: list[Sequence[Any]], hours: int) -> LabelFigures:
    counts = [0] * hours
    for row in rows:
        counts[row[1]] += row[2]
    return LabelFigures(
        label=label,
        hours=tuple(counts),
        frames=sum(row[3] for row in rows),
        first_seen=min(row[4] for row in rows),
        last_seen=max(row[5] for row in rows),
        mean_confidence=sum(row[2] * row[6] for row in rows) / sum(counts),
        min_confidence=min(row[7] for row in rows),
        max_confidence=max(row[8] for row in rows),
    )


def _labels_of(rows: Iterable[Sequence[Any]]) -> dict[str, Counter[str]]:
    """Returns the detections of each source by label."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found[row[9]][row[0]] += row[2]
    return found


def _by_source(rows: Iterable[Sequence[Any]]) -> dict[str | None, list[Sequence[Any]]]:
    found: dict[str | None, list[Sequence[Any]]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    return found


def _frame_hours(rows: Iterable[Sequence[Any]], hours: int) -> FrameHours:
    counts = [[0] * hours for _ in range(3)]
    for row in rows:
        if row[1] is None:
            continue  # dead letters whose record has another day than they are listed under
        for place, count in enumerate(row[2:5]):
            counts[place][row[1]] += count or 0
    processed, gated, dead_letters = (tuple(count) for count in counts)
    return FrameHours(processed, gated, dead_letters)


def _source(
    row: Sequence[Any],
    stats: Mapping[str | None, list[Sequence[Any]]],
    labels_of: Mapping[str, Mapping[str, int]],
    hours: int,
) -> SourceFigures:
    return SourceFigures(
        source=row[0] or "",
        hours=_frame_hours(stats.get(row[0], []), hours),
        first_seen=row[5],
        last_seen=row[6],
        active_hours=row[7] or 0,
        longest_pause_s=row[8],
        dead_letters=row[4],
        labels=labels_of.get(row[0] or "", {}),
        size_bytes=row[9] or 0,
        observed_s=_observed(stats.get(row[0], [])),
    )


def _histogram(maps: Iterable[Mapping[float, int] | None]) -> Histogram:
    return tuple(sorted((float(lower), frames) for lower, frames in _summed(maps).items()))


def _dimensions(maps: Iterable[Mapping[str, int] | None]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(_summed(maps).items(), key=lambda row: (-row[1], row[0])))


def _summed(maps: Iterable[Mapping[_Bin, int] | None]) -> dict[_Bin, int]:
    """Adds up the histograms of several hours or sources."""
    summed: dict[_Bin, int] = defaultdict(int)
    for one in maps:
        for key, frames in (one or {}).items():
            summed[key] += frames
    return summed
