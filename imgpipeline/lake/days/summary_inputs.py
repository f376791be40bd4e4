"""The inputs of derived objects: stored tables of one day, each in one version, all up to the same ends."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from imgpipeline.contracts.keys import day_table_key, parse_day, summary_key
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.lake.schema.events import EVENT_TABLES
from imgpipeline.lake.schema.tables import DAY_TABLE_NAMES, WEAK_DETECTIONS
from imgpipeline.lake.schema.tracks import DAY_TRACK_TABLES
from imgpipeline.lake.storage.cache import LakeCache, open_cache
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
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Linked:
    """A stored table of a day as a local file (`storage.cache`)."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Inputs:
    """Open tables of one day."""

    engine: Engine
    """DuckDB with each table under its name, including the column `day`."""
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
    store: ObjectStore,
    tables: Iterable[str],
    day: date,
    *,
    optional: Iterable[str] = (),
    wanted_by: str,
    memory: str | None,
) -> Iterator[Inputs]:
    """Opens stored tables of a day in DuckDB, all but the `optional` ones up to the same ends; otherwise `link_day`."""
    with open_cache(store) as (folder, cache), open_engine(folder, memory=memory) as engine:
        linked = link_day(store, cache, folder, day, tables, wanted_by=wanted_by)
        yield _show(engine, day, linked | _link(store, cache, folder, day, (), optional, wanted_by))
        cache.trim()


@contextmanager
def open_tables(
    store: ObjectStore, tables: Iterable[str], day: date, *, optional: Iterable[str] = (), memory: str | None
) -> Iterator[Inputs]:
    """Opens stored tables of a day in DuckDB for display, whatever their ends; `optional` ones may be missing.

    Raises:
        PermanentError: A table is missing or damaged, or the local disk cannot be used.
    """
    with open_each_day(store, memory=memory) as show:
        yield show(tables, day, optional)


ShowDay = Callable[[Iterable[str], date, Iterable[str]], Inputs]
"""Opens tables, and optional ones, of a day in place of those of the day before."""


@contextmanager
def open_each_day(store: ObjectStore, *, memory: str | None) -> Iterator[ShowDay]:
    """Opens DuckDB once for one day after the other; `ShowDay` raises as `open_tables`."""
    with open_cache(store) as (folder, cache), open_engine(folder, memory=memory) as engine:

        def show(tables: Iterable[str], day: date, optional: Iterable[str] = ()) -> Inputs:
            for link in folder.glob("*-read.parquet"):
                link.unlink()
            linked = _link(store, cache, folder, day, tables, optional, "A preview")
            cache.trim()
            return _show(engine, day, linked)

        yield show


@contextmanager
def open_days(store: ObjectStore, table: str, days: Iterable[date], *, memory: str | None) -> Iterator[Engine]:
    """Opens a stored table of several days in DuckDB under its name; errors as `open_tables`."""
    with open_cache(store) as (folder, cache), open_engine(folder, memory=memory) as engine:
        paths = {day: _link(store, cache, folder, day, (table,), (), "A check")[table].path for day in days}
        rows = " UNION ALL BY NAME ".join(all_rows(path, day=day) for day, path in paths.items())
        engine.run(f"CREATE VIEW {identifier(table)} AS {rows}")
        yield engine
        cache.trim()


def _show(engine: Engine, day: date, linked: Mapping[str, Linked]) -> Inputs:
    for table, each in linked.items():
        engine.run(f"CREATE OR REPLACE VIEW {identifier(table)} AS {all_rows(each.path, day=day)}")
    manifests = {table: each.manifest for table, each in linked.items()}
    return Inputs(engine, manifests, {table: manifest.version for table, manifest in manifests.items()})


def link_day(
    store: ObjectStore,
    cache: LakeCache,
    folder: Path,
    day: date,
    tables: Iterable[str],
    *,
    optional: Iterable[str] = (),
    wanted_by: str,
) -> dict[str, Linked]:
    """Links stored tables of a day into a folder, all up to the same ends, and waits for a build that is storing them.

    Args:
        cache: Fetches an object once per machine.
        folder: Gets the files.
        day: UTC day.
        tables: Names of the tables.
        optional: Further tables, which may be missing.
        wanted_by: What is made of them, for messages.

    Raises:
        PermanentError: A table is missing or is not a Parquet file of this project, or the local disk cannot be used.
        UnsettledError: The build took too long.
    """

    def link() -> dict[str, Linked]:
        linked = _link(store, cache, folder, day, tables, optional, wanted_by)
        require_equal_ends((each.manifest for each in linked.values()), wanted_by, day)
        return linked

    return when_settled(link)


def _link(
    store: ObjectStore,
    cache: LakeCache,
    folder: Path,
    day: date,
    tables: Iterable[str],
    optional: Iterable[str],
    wanted_by: str,
) -> dict[str, Linked]:
    linked = {}
    needed = set(tables)
    # Optional ones come last: builds store weak detections first, so those of the linked frames are stored by then.
    for table in (*tables, *optional):
        key, path = stored_key(table, day), folder / f"{table}-{day}-read.parquet"
        path.unlink(missing_ok=True)
        info = store.head(key)
        if info and cache.link(key, info.e_tag, path):
            linked[table] = Linked(path, parse_footer(path, key))
        elif table in needed:
            raise _missing(wanted_by, table, day)
    return linked


class UnsettledError(TransientError):
    """The tables of a day cover different offsets: a build is storing them, or was killed."""


def when_settled(read: Callable[[], _Read]) -> _Read:
    """Reads tables of a day again while `read` raises UnsettledError, for as long as a build takes to store them."""
    retrying = Retrying(
        retry=retry_if_exception_type(UnsettledError),
        stop=stop_after_delay(SETTLE_S),
        wait=wait_fixed(_LOOK_AGAIN_S),
        reraise=True,
    )
    return retrying(read)


def require_equal_ends(manifests: Iterable[Manifest], wanted_by: str, day: date) -> None:
    """Raises UnsettledError unless tables of a day cover the same offsets."""
    if not have_equal_ends(manifests):
        raise UnsettledError(
            f"{wanted_by} of {day} cannot be made yet: its tables cover different offsets, because a build of the day "
            "is running or was killed.",
            next_step=_build_again(day),
        )


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
