"""DuckDB as this project opens it.

Owns its settings (UTC, no extensions from the network, spilling into the caller's folder) and the translation of its
errors. What is asked of it belongs to the modules beside.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from imgpipeline.errors import ImgpipelineError, PermanentError


@dataclass(frozen=True, slots=True)
class Engine:
    """An opened DuckDB with a folder of its own."""

    connection: duckdb.DuckDBPyConnection
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


@contextlib.contextmanager
def open_engine(folder: Path | None = None) -> Iterator[Engine]:
    """Opens DuckDB in memory.

    Args:
        folder: Where it may spill and files are spooled to; default: a temporary one that is removed at the end.

    Yields:
        The engine.

    Raises:
        PermanentError: The temporary folder cannot be made, or is full.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            with disk_errors(Path(tempfile.gettempdir())):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imgpipeline-lake-")))
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "temp_directory": str(folder / "spilled"),
        }
        with engine_errors():
            connection = duckdb.connect(":memory:", config=config)
            stack.callback(connection.close)
            connection.execute("SET TimeZone = 'UTC'")
        yield Engine(connection, folder)


def lock(engine: Engine) -> None:
    """From here on only files of the engine's folder can be opened, and no setting can be changed."""
    engine.run("SET python_enable_replacements = false")
    engine.run(f"SET allowed_directories = [{quoted(str(engine.folder))}]")
    engine.run("SET enable_external_access = false")
    engine.run("SET lock_configuration = true")


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turns DuckDB's errors into this project's."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise PermanentError(
            f"DuckDB has not enough memory: {error}", next_step="free memory, or ask for fewer days at once"
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


def all_rows(path: Path, *, day: date | None = None) -> str:
    """Returns a query for all of one Parquet file, whatever its path looks like; with a day as a column `day`."""
    first = f"{quoted(day.isoformat())}::DATE AS day, " if day else ""
    return f"SELECT {first}* FROM read_parquet({quoted(str(path))}, hive_partitioning = false)"  # noqa: S608 - quoted
