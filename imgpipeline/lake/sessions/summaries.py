"""The summaries of a query session: stored ones where they are current, counted from the session's tables elsewhere.

A stored summary is current if its recipe is that of the settings and it was made of exactly the tables that show all of
its day. Then its rows are those that its query returns over the session's tables, so a view may join both.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from imgpipeline.errors import TransientError
from imgpipeline.lake.days.summaries import SUMMARIES, Summary, recipe
from imgpipeline.lake.days.summary_inputs import stored_key
from imgpipeline.lake.schema.tables import DEAD_LETTERS, DETECTIONS, FRAME_STATS, FRAMES, HISTOGRAM_VIEWS, LABEL_COUNTS
from imgpipeline.lake.sessions.local_time import DAY_OF_LETTER, DAY_OF_ROW, LocalDays
from imgpipeline.lake.sessions.snapshot import SHOWN_LETTERS
from imgpipeline.lake.storage.cache import LakeCache
from imgpipeline.lake.storage.engine import Engine, identifier, rows_with_days
from imgpipeline.lake.storage.manifest import DamagedObjectError, Manifest, parse_footer
from imgpipeline.settings import Settings

_READERS = 16
WANTED_DAYS = "wanted_days"
"""A variable of DuckDB: the UTC days to which a connection limits the views of summaries. Not set: all days."""
IS_WANTED = f"(getvariable('{WANTED_DAYS}') IS NULL OR list_contains(getvariable('{WANTED_DAYS}'), day))"
"""SQL for whether a UTC day is wanted. DuckDB knows the variable when it plans, so it opens only those files."""
HOURLY = frozenset({FRAME_STATS.name, LABEL_COUNTS.name})
"""Summaries by hour, which can be added up for any day that consists of whole UTC hours."""
_OF_ROWS = {FRAMES.name: DAY_OF_ROW, DETECTIONS.name: DAY_OF_ROW, DEAD_LETTERS.name: DAY_OF_LETTER}
"""SQL for the local day of a row, by input of summaries. A notice counts on each day that it touches."""
_READ = {DEAD_LETTERS.name: SHOWN_LETTERS}
"""The table `dead_letters` that users see would read the ledger."""

Linked = Mapping[date, tuple[Manifest, Path]]
"""Manifest and file of each day on which a stored summary is current."""


def with_inputs(names: Collection[str]) -> list[str]:
    """Returns the names of summaries and of those that they read, each after its inputs."""
    wanted = set(names)
    for name in reversed(list(SUMMARIES)):
        if name in wanted:
            wanted.update(SUMMARIES.keys() & SUMMARIES[name].inputs)
    return [name for name in SUMMARIES if name in wanted]


def link_current(
    cache: LakeCache,
    folder: Path,
    settings: Settings,
    listed: Mapping[str, Mapping[date, str]],
    is_complete: Callable[[Manifest, str], bool],
    linked: Mapping[str, Linked] | None = None,
) -> dict[str, Linked]:
    """Links the stored summaries that are current into a session's folder.

    Args:
        folder: The session's folder.
        listed: The e-tag of each stored day, by summary, each after those that it reads (`with_inputs`).
        is_complete: Tells by manifest and e-tag whether a summary was made of the day tables that show all of its day.
        linked: The summaries that were linked before.

    Returns:
        All linked summaries, by name.

    Raises:
        LedgerError: A segment newer than the tables cannot be read.
        PermanentError: The local disk cannot be used.
    """
    found = dict(linked or {})

    def take(name: str, day: date, e_tag: str) -> tuple[Manifest, Path] | None:
        key, below = stored_key(name, day), SUMMARIES.keys() & SUMMARIES[name].inputs
        if not all(day in found[table] for table in below):
            return None
        try:
            if cache.link(key, e_tag, folder / key) is None:
                return None
            manifest = parse_footer(folder / key, key)
        except (DamagedObjectError, TransientError):
            return None  # counted like a missing one
        made_of = {table: found[table][day][0].version for table in below}
        if manifest.made_by != recipe(name, settings) or not made_of.items() <= manifest.made_of.items():
            return None
        return (manifest, folder / key) if is_complete(manifest, e_tag) else None

    with ThreadPoolExecutor(_READERS) as pool:
        for name, days in listed.items():
            taken = pool.map(take, [name] * len(days), days.keys(), days.values())
            new = {day: one for day, one in zip(days, taken, strict=True) if one}
            found[name] = {**found.get(name, {}), **new}
    cache.trim()
    return found


def show_summary(engine: Engine, summary: Summary, stored: Linked) -> None:
    """Creates or replaces the view of a summary in UTC: its stored days, and the other days counted.

    The view uses the macros of `main`, whatever the search path of a connection.
    """
    counted = f"{IS_WANTED} AND NOT list_contains({dates(stored)}, day)"
    inputs = ", ".join(
        f"{name} AS (SELECT * FROM {_READ.get(name, f'main.{name}')} WHERE {counted})"  # noqa: S608 - own names
        for name in summary.inputs
    )
    query = f"WITH {inputs} SELECT * FROM ({summary.sql}\n)"  # noqa: S608 - a registered query
    if stored:
        columns = ", ".join(identifier(name) for name in summary.table.names)
        rows = rows_with_days(path for _, path in stored.values())
        query = f"SELECT {columns} FROM {rows} WHERE {IS_WANTED} UNION ALL BY NAME ({query})"  # noqa: S608 - own names
    engine.run(f"CREATE OR REPLACE VIEW main.{summary.name} AS {query}")


def local_summaries(local: LocalDays, names: Collection[str], days: Collection[date] | None) -> str:
    """Returns the beginning of a query, `WITH …`, in which the summaries are those of days of a time zone.

    Args:
        local: The time zone; the connection has its macros, and is limited to the UTC days that overlap the days.
        days: The days of the zone; None: all.
    """
    chosen = "true" if days is None else f"list_contains({dates(days)}, day)"
    queries = {
        name: f"SELECT * REPLACE ({day} AS day) FROM {_READ.get(name, f'main.{name}')} WHERE {IS_WANTED}"  # noqa: S608 - own names
        for name, day in _OF_ROWS.items()
    }
    for name in with_inputs(names):
        is_moved = name in HOURLY and local.has_whole_hours
        moved = f"SELECT * REPLACE (coalesce(local_day(hour), day) AS day) FROM main.{name}"  # noqa: S608 - own names
        queries[name] = moved if is_moved else f"{SUMMARIES[name].sql}\n"
    return "WITH " + ", ".join(f"{name} AS (SELECT * FROM ({sql}) WHERE {chosen})" for name, sql in queries.items())  # noqa: S608 - own names, registered queries


def summaries_in(sql: str) -> list[str]:
    """Returns the names of the summaries that a query may use."""
    lowered = sql.lower()
    has_histogram = any(view.name in lowered for view in HISTOGRAM_VIEWS)
    return [name for name in SUMMARIES if name in lowered or (has_histogram and name == FRAME_STATS.name)]


def dates(days: Iterable[date]) -> str:
    """Returns days as a list in SQL."""
    return "[" + ", ".join(f"DATE '{day}'" for day in sorted(days)) + "]::DATE[]"
