"""The inputs of a summary: stored tables of one day, each in one version, all up to the same ends."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imgpipeline.contracts.keys import day_table_key, parse_day, summary_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.schema import DAY_TABLE_NAMES, WEAK_DETECTIONS
from imgpipeline.lake.schema.events import EVENT_TABLES
from imgpipeline.lake.schema.tracks import DAY_TRACK_TABLES
from imgpipeline.lake.storage.cache import open_cache
from imgpipeline.lake.storage.engine import Engine, all_rows, identifier, open_engine
from imgpipeline.lake.storage.manifest import Manifest, Stored, have_equal_ends, parse_footer, read_stored
from imgpipeline.objectstore import ObjectStore

_KEYS_OF_DAY_TABLES = {
    *DAY_TABLE_NAMES,
    WEAK_DETECTIONS.name,
    *(table.name for table in (*DAY_TRACK_TABLES, *EVENT_TABLES)),
}
SETTLE_S = 20.0
"""A build stores the tables of a day in sequence; a summary waits this long for the last one."""
_LOOK_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class Inputs:
    """Open tables of one day."""

    engine: Engine
    manifests: Mapping[str, Manifest]
    versions: Mapping[str, str]


def stored_key(table: str, day: date) -> str:
    """Returns the key of a day table, a table of tracks or events, or a summary."""
    return day_table_key(table, day) if table in _KEYS_OF_DAY_TABLES else summary_key(table, day)


def list_versions(store: ObjectStore, table: str, listed: Mapping[str, str] | None = None) -> dict[date, str]:
    """Returns the e-tag of each stored day of a table; for caches only.

    They come from one listing, or from `listed`, e-tags by key.
    """
    if listed is None:
        below = stored_key(table, date.min).split("/day=", 1)[0]
        listed = {info.key: info.e_tag for info in store.list_objects(below)}
    days = ((parse_day(key), key, e_tag) for key, e_tag in listed.items())
    return {day: e_tag for day, key, e_tag in days if day and key == stored_key(table, day)}


def find_inputs(store: ObjectStore, tables: Iterable[str], day: date, *, wanted_by: str) -> dict[str, Stored]:
    """Returns the manifest of each input of a summary.

    Raises:
        PermanentError: A table is missing, or is not a Parquet file of this project.
    """
    found: dict[str, Stored] = {}
    for table in tables:
        stored = read_stored(store, stored_key(table, day))
        if stored is None:
            raise _missing(wanted_by, table, day)
        found[table] = stored
    return found


@contextmanager
def open_inputs(
    store: ObjectStore, found: Mapping[str, Stored], day: date, *, wanted_by: str, memory: str | None
) -> Iterator[Inputs | None]:
    """Opens stored tables of a day in DuckDB. An object is fetched once per machine (`storage.cache`).

    Args:
        store: The object store.
        found: The result of `find_inputs`; if a table was replaced since, the newer version is opened.
        day: UTC day.
        wanted_by: The summary, for messages.
        memory: As for `open_engine`.

    Yields:
        The tables; None if they have different ends, because a build is storing them.

    Raises:
        PermanentError: A table is missing or is not a Parquet file of this project, or the
            local disk cannot be used.
    """
    listed = {table: stored.e_tag for table, stored in found.items()}
    with _opened(store, listed, day, wanted_by, memory) as engine:
        manifests = {table: parse_footer(_path(engine, table), stored_key(table, day)) for table in found}
        versions = {table: manifest.version for table, manifest in manifests.items()}
        yield None if not have_equal_ends(manifests.values()) else Inputs(engine, manifests, versions)


@contextmanager
def open_tables(store: ObjectStore, tables: Iterable[str], day: date, *, memory: str | None) -> Iterator[Engine]:
    """Opens stored tables of a day in DuckDB for display, whatever their ends.

    Yields:
        DuckDB with each table under its name, including the column `day`.

    Raises:
        PermanentError: A table is missing, or the local disk cannot be used.
    """
    infos = {table: store.head(stored_key(table, day)) for table in tables}
    listed = {table: info.e_tag if info else "" for table, info in infos.items()}
    with _opened(store, listed, day, "A preview", memory) as engine:
        yield engine


@contextmanager
def _opened(
    store: ObjectStore, listed: Mapping[str, str], day: date, wanted_by: str, memory: str | None
) -> Iterator[Engine]:
    """Opens DuckDB with tables of a day, named with their e-tags."""
    with open_cache(store) as (folder, cache), open_engine(folder, memory=memory) as engine:
        for table, e_tag in listed.items():
            if cache.link(stored_key(table, day), e_tag, _path(engine, table)) is None:
                raise _missing(wanted_by, table, day)
            engine.run(f"CREATE VIEW {identifier(table)} AS {all_rows(_path(engine, table), day=day)}")
        cache.trim()
        yield engine


def _path(engine: Engine, table: str) -> Path:
    return engine.folder / f"{table}-read.parquet"


class UnsettledError(TransientError):
    """The tables of a day cover different offsets: a build is storing them, or was killed."""


class Patience:
    """Waits while a build is storing the tables of a day."""

    def __init__(self) -> None:
        """The time starts at the first `wait`."""
        self._until_s: float | None = None

    def wait(self, name: str, day: date) -> None:
        """Pauses for half a second.

        Raises:
            UnsettledError: The build took too long.
        """
        now_s = time.monotonic()
        if self._until_s is None:
            self._until_s = now_s + SETTLE_S
        if now_s >= self._until_s:
            raise UnsettledError(
                f"{name} of {day} cannot be made yet: its tables cover different offsets, because a build of the day "
                "is running or was killed.",
                next_step=_build_again(day),
            )
        time.sleep(_LOOK_AGAIN_S)


def _missing(wanted_by: str, table: str, day: date) -> PermanentError:
    return PermanentError(
        f"{wanted_by} of {day} cannot be made: the day has no table `{table}` yet.",
        next_step=_materialize_table(table, day),
    )


def _materialize_table(table: str, day: date) -> str:
    return _build_again(day) if table in DAY_TABLE_NAMES else _materialize(table, day)


def _build_again(day: date) -> str:
    return _materialize(",".join(DAY_TABLE_NAMES), day)


def _materialize(assets: str, day: date) -> str:
    return f"run `dagster asset materialize -m imgpipeline.definitions --select {assets} --partition {day}`"
