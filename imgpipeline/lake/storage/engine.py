"""Opens DuckDB with times in UTC, limited memory, a temporary folder to spill to, and no extensions from the network.

A process holds a lock on its temporary folder. The system releases the lock however the process ends, so the next
process can remove abandoned folders, and never one that is in use.
"""

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipeline.errors import ImgpipelineError, PermanentError
from imgpipeline.settings.tables import TableSettings

if TYPE_CHECKING:
    import duckdb

_PREFIX = "imgpipeline-lake-"
_SHARE = 4
"""An engine may use a quarter of the machine's memory. DuckDB's default of four fifths is too much for two builds at a
time, or for a build next to a detection run."""
_THREAD_BYTES = 2**28
"""Least memory per thread: each has its own buffers, three of 32 MB when it reads documents."""
_UTC_MACROS = (
    "local_time(t) AS CAST(t AS TIMESTAMP)",
    "local_day(t) AS CAST(t AS DATE)",
    "local_hour(t) AS time_bucket(INTERVAL 1 hour, t)",
)
"""Hours and days of queries; `lake.sessions.local_time` replaces these macros by those of another time zone."""
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files with the memory limit of a container, for versions 2 and 1 of control groups."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An open DuckDB with its own folder."""

    connection: "duckdb.DuckDBPyConnection"
    """In memory; times are UTC."""
    folder: Path
    """For temporary files; removed when the engine is closed."""

    def run(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Runs one statement of this project, or several without parameters, and returns all rows of the last one.

        Raises:
            PermanentError: DuckDB reports an error; the message quotes it.
        """
        with engine_errors():
            return self.connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        """Runs one statement and returns the first value of its first row."""
        return self.run(sql, parameters)[0][0]


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """Limits of a build."""

    memory: str | None = None
    """Memory of DuckDB, such as `2GB`; None: a quarter of the machine's."""
    object_bytes: int = 500_000_000
    """The largest object of a table, in bytes."""

    @classmethod
    def of(cls, settings: TableSettings) -> "BuildLimits":
        """Returns the limits of the settings."""
        return cls(settings.duckdb_memory, settings.table_object_bytes)


NO_LIMITS = BuildLimits()
"""The defaults of the settings."""


@contextlib.contextmanager
def open_engine(folder: Path | None = None, *, memory: str | None) -> Iterator[Engine]:
    """Opens DuckDB in memory.

    Args:
        folder: For temporary files. Default: a temporary folder that is removed at the end, or by the next engine if
            this process is killed.
        memory: Limit such as `2GB` (the setting `duckdb_memory`); None: a quarter of the machine's memory.

    Yields:
        The engine, with the macros `local_time(t)` (a TIMESTAMP), `local_day(t)` and `local_hour(t)` (the start of the
        hour) of UTC.

    Raises:
        PermanentError: The temporary folder cannot be made, or is full.
    """
    import duckdb  # noqa: PLC0415 - loads slowly; a detection run and the code location do not need it

    memory = memory or f"{machine_memory_bytes() // _SHARE}B"
    with contextlib.ExitStack() as stack:
        if folder is None:
            parent = Path(tempfile.gettempdir())
            with disk_errors(parent):
                folder = stack.enter_context(scratch_folder(parent, _PREFIX))
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": str(folder / "spilled"),
            "memory_limit": memory,
        }
        with engine_errors():
            connection = duckdb.connect(":memory:", config=config)
            stack.callback(connection.close)
            connection.execute("SET GLOBAL TimeZone = 'UTC'")  # GLOBAL: for cursors too
            connection.execute("SET enable_progress_bar = false")  # DuckDB draws it on stdout
            for macro in _UTC_MACROS:
                connection.execute(f"CREATE MACRO {macro}")
            _bound_threads(connection)
        yield Engine(connection, folder)


def _bound_threads(connection: "duckdb.DuckDBPyConnection") -> None:
    asked = "SELECT current_setting('threads'), parse_formatted_bytes(current_setting('memory_limit'))"
    threads, limit_bytes = connection.execute(asked).fetchall()[0]
    most = max(1, int(limit_bytes) // _THREAD_BYTES)
    if most < threads:
        connection.execute(f"SET threads = {most}")


@functools.cache
def read_sql(package: str, name: str) -> str:
    """Returns a query from the folder `sql` of a package, without the spaces and line breaks around it."""
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8").strip()


@functools.cache
def machine_memory_bytes() -> int:
    """Returns the memory of this machine, or the limit of the container if that is lower."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # missing, or `max`
            found.append(int(path.read_text(encoding="ascii")))
    return min(found)


def lock(engine: Engine) -> None:
    """Restricts an engine to files in its own folder, and forbids changing settings."""
    engine.run("SET GLOBAL python_enable_replacements = false")
    engine.run(f"SET allowed_directories = [{quoted(str(engine.folder))}]")
    engine.run("SET enable_external_access = false")
    engine.run("SET lock_configuration = true")


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turns DuckDB's errors into errors of this project."""
    import duckdb  # noqa: PLC0415 - as above

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise PermanentError(
            f"DuckDB ran out of memory: {error}",
            next_step="raise IMGPIPELINE_DUCKDB_MEMORY (a build needs 200MB), or ask for fewer days at once",
        ) from None
    except duckdb.IOException as error:
        raise PermanentError(f"DuckDB cannot read or write a file: {error}", next_step="free disk space") from None
    except duckdb.Error as error:
        raise PermanentError(f"DuckDB reports an error: {error}") from None


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns errors of the local disk into an error that names the folder."""
    try:
        yield
    except ImgpipelineError:
        raise
    except OSError as error:
        raise PermanentError(
            f"The local folder {folder} cannot be used: {error.strerror or error}.",
            next_step="free space there, or name another folder (TMPDIR; for the query cache XDG_CACHE_HOME)",
        ) from error


def quoted(text: str) -> str:
    """Returns text as an SQL string, for places that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Returns a name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def rows_with_days(paths: Iterable[Path]) -> str:
    """Returns the rows of Parquet files below `day=…` folders, with the column `day`, for a FROM clause."""
    files = ", ".join(quoted(str(path)) for path in paths)
    return f"read_parquet([{files}], hive_partitioning = true, hive_types = {{day: DATE}})"


def all_rows(path: Path, *, day: date | None = None) -> str:
    """Returns a query for all rows of one Parquet file; with a day, they get it as the column `day`."""
    first = f"{quoted(day.isoformat())}::DATE AS day, " if day else ""
    return f"SELECT {first}* FROM read_parquet({quoted(str(path))}, hive_partitioning = false)"  # noqa: S608 - quoted


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Makes a folder and removes it at the end. Removes abandoned folders of the same parent and prefix first.

    Args:
        parent: An existing folder.
        prefix: Prefix of the new folder's name.

    Yields:
        An empty folder.

    Raises:
        OSError: The local disk cannot be used.
    """
    _sweep(parent, prefix)
    folder, lock = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.is_dir():
                return folder, lock
            os.close(lock)  # another process removed it before it was locked


def _sweep(parent: Path, prefix: str) -> None:
    """Removes the folders that no process has locked. Does not follow links: others may write to the parent."""
    names = [entry.path for entry in os.scandir(parent) if entry.name.startswith(prefix)]
    for name in names:
        with contextlib.suppress(OSError):
            lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(name, ignore_errors=True)
            finally:
                os.close(lock)
