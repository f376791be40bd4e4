"""Opens DuckDB: times in UTC, no extensions from the network, limited memory, and a temporary folder to spill to."""

import contextlib
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipeline.errors import ImgpipelineError, PermanentError
from imgpipeline.settings.tables import TableSettings

if TYPE_CHECKING:
    import duckdb

_PREFIX = "imgpipeline-lake-"
_SHARE = 4
"""An engine takes a quarter of the machine's memory. DuckDB's own default is four fifths for each, which two builds at
a time, or one beside a detection run, do not have."""
_THREAD_BYTES = 2**28
"""Each thread has buffers of its own, three of 32 MB where it reads documents; with less memory than this for each,
there are fewer threads."""
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""What a container may take, by version 2 and 1 of control groups."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An opened DuckDB with a folder of its own."""

    connection: "duckdb.DuckDBPyConnection"
    """In memory; times are UTC."""
    folder: Path
    """For spooled and written files; removed when the engine is closed."""

    def run(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Runs one statement of this project and returns all rows.

        Raises:
            PermanentError: DuckDB refuses; the message has its own words.
        """
        with engine_errors():
            return self.connection.execute(sql, parameters).fetchall()

    def value(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        """Runs one statement and returns the first value of its first row."""
        return self.run(sql, parameters)[0][0]


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """What a build may take."""

    memory: str | None = None
    """Memory of DuckDB, such as `2GB`; None: a quarter of the machine's."""
    object_bytes: int = 500_000_000
    """The largest object of a table, in bytes."""

    @classmethod
    def of(cls, settings: TableSettings) -> "BuildLimits":
        """Returns the limits that the settings name."""
        return cls(settings.duckdb_memory, settings.table_object_bytes)


NO_LIMITS = BuildLimits()
"""The limits if no settings are given: the defaults of the settings."""


@contextlib.contextmanager
def open_engine(folder: Path | None = None, *, memory: str | None) -> Iterator[Engine]:
    """Opens DuckDB in memory.

    Args:
        folder: Where it may spill and files are spooled to; default: a temporary one that is removed at the end, and
            by the next engine where this process is killed.
        memory: What it may take, such as `2GB` (the setting `duckdb_memory`); None: a quarter of the machine's.

    Yields:
        The engine.

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
            connection.execute("SET GLOBAL TimeZone = 'UTC'")  # cursors have it too
            connection.execute("SET enable_progress_bar = false")  # it is drawn on stdout, into what commands print
            _bound_threads(connection)
        yield Engine(connection, folder)


def _bound_threads(connection: "duckdb.DuckDBPyConnection") -> None:
    asked = "SELECT current_setting('threads'), parse_formatted_bytes(current_setting('memory_limit'))"
    threads, limit_bytes = connection.execute(asked).fetchall()[0]
    most = max(1, int(limit_bytes) // _THREAD_BYTES)
    if most < threads:
        connection.execute(f"SET threads = {most}")


@functools.cache
def machine_memory_bytes() -> int:
    """Returns the memory of this machine, or of the container if that is less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # not there, or `max`
            found.append(int(path.read_text(encoding="ascii")))
    return min(found)


def lock(engine: Engine) -> None:
    """From here on only files of the engine's folder can be opened, and no setting can be changed."""
    engine.run("SET GLOBAL python_enable_replacements = false")
    engine.run(f"SET allowed_directories = [{quoted(str(engine.folder))}]")
    engine.run("SET enable_external_access = false")
    engine.run("SET lock_configuration = true")


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turns DuckDB's errors into this project's."""
    import duckdb  # noqa: PLC0415 - as above

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise PermanentError(
            f"DuckDB has not enough memory: {error}",
            next_step="raise IMGPIPELINE_DUCKDB_MEMORY (a build needs 200MB), or ask for fewer days at once",
        ) from None
    except duckdb.IOException as error:
        raise PermanentError(f"DuckDB cannot read or write a file: {error}", next_step="free disk space") from None
    except duckdb.Error as error:
        raise PermanentError(f"DuckDB refuses: {error}") from None


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns failures of the local disk into an error that names the folder."""
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
    """Returns text as an SQL string, for the few places that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Returns a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def rows_with_days(paths: Iterable[Path]) -> str:
    """Returns the rows of Parquet files below `day=…` folders, with the column `day`, for a FROM clause."""
    files = ", ".join(quoted(str(path)) for path in paths)
    return f"read_parquet([{files}], hive_partitioning = true, hive_types = {{day: DATE}})"


def all_rows(path: Path, *, day: date | None = None) -> str:
    """Returns a query for all of one Parquet file, whatever its path looks like; with a day as a column `day`."""
    first = f"{quoted(day.isoformat())}::DATE AS day, " if day else ""
    return f"SELECT {first}* FROM read_parquet({quoted(str(path))}, hive_partitioning = false)"  # noqa: S608 - quoted


@contextlib.contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Makes a folder, and removes it at the end.

    Folders of the same parent and prefix that no process holds any more are removed first.

    Args:
        parent: Where to make it; must be there.
        prefix: How its name begins.

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
            os.close(lock)  # another process swept it away before it was locked


def _sweep(parent: Path, prefix: str) -> None:
    """Removes the folders of processes that ended without doing so, recognised by their free lock.

    Links are not followed: the parent may be a folder that others write to.
    """
    names = [entry.path for entry in os.scandir(parent) if entry.name.startswith(prefix)]
    for name in names:
        with contextlib.suppress(OSError):
            lock = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(name, ignore_errors=True)
            finally:
                os.close(lock)
