"""PostgreSQL: a day is replaced in one transaction, so readers see the old or the new rows.

Each table has the rows of all days. The view `frames` has the columns of the classic table of that name and its key
(video_id, frame_id): of a frame that is on several days, it shows the newest, and the older one once that is removed.

    postgresql://user@host:5432/database?options=-csearch_path%3Dcameras
"""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.csv
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 - its name is no class name
from psycopg2.sql import SQL, Identifier

from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.sinks.protocol import SHARED_TABLES, SinkConfig, SinkTable, StoredDay

_CREATE_VERSIONS = """
CREATE TABLE IF NOT EXISTS imgpipeline_exports
(table_name text, day date, version text, rows bigint, exported_at timestamptz, PRIMARY KEY (table_name, day))
"""
_DAYS = "SELECT day, version, rows, exported_at FROM imgpipeline_exports WHERE table_name = %s"
_INSERT_VERSION = "INSERT INTO imgpipeline_exports VALUES (%s, %s, %s, %s, now())"
_DELETE_VERSION = "DELETE FROM imgpipeline_exports WHERE table_name = %s AND day = %s"
_FRAME_PATHS = SinkTable(
    "frame_paths",
    (FRAMES.name,),
    """
    SELECT day, video_id, frame_id, "timestamp", path FROM (
        SELECT day, coalesce(attributes->>'$.video_id', source) AS video_id,
               coalesce(attributes->>'$.frame_id', frame_id) AS frame_id,
               "timestamp", source_image_path AS path, source_kafka_offset
        FROM frames WHERE source_image_path IS NOT NULL
    )
    QUALIFY row_number() OVER (PARTITION BY video_id, frame_id ORDER BY "timestamp" DESC, source_kafka_offset DESC) = 1
    """,
    ("video_id", "frame_id"),
)
_FRAMES_VIEW = """
CREATE OR REPLACE VIEW frames AS SELECT DISTINCT ON (video_id, frame_id) frame_id, video_id, "timestamp", path, day
FROM frame_paths ORDER BY video_id, frame_id, day DESC
"""
_TYPES = {
    pa.string(): "text",
    pa.int64(): "bigint",
    pa.int32(): "integer",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.date32(): "date",
}


class PostgresqlSink:
    """Tables of a PostgreSQL database, in the first schema of its search path."""

    tables = (_FRAME_PATHS, *SHARED_TABLES)

    def __init__(self, config: SinkConfig) -> None:
        self._config = config
        self._open: Connection | None = None

    def check(self) -> str:
        """See `Sink`."""
        with self._transaction() as cursor:
            cursor.execute("SHOW server_version")
            return f"PostgreSQL {cursor.fetchone()[0]}"

    def stored_days(self, table: SinkTable) -> Mapping[date, StoredDay]:
        """See `Sink`."""
        with self._transaction() as cursor:
            if not (_exists(cursor, table.name) and _exists(cursor, "imgpipeline_exports")):
                return {}  # also if somebody dropped the table
            cursor.execute(_DAYS, [table.name])
            return {day: StoredDay(*rest) for day, *rest in cursor.fetchall()}

    def replace_day(self, table: SinkTable, day: date, rows: pa.RecordBatchReader, version: str) -> int:
        """See `Sink`."""
        with self._transaction() as cursor:
            self._prepare(cursor, table, rows.schema)
            self._delete(cursor, table, day)
            columns = SQL(", ").join(map(Identifier, rows.schema.names))
            copy = SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(Identifier(table.name), columns)
            cursor.copy_expert(copy, _CsvReader(rows))
            count: int = cursor.rowcount
            cursor.execute(_INSERT_VERSION, [table.name, day, version, count])
            return count

    def remove_day(self, table: SinkTable, day: date) -> None:
        """See `Sink`."""
        with self._transaction() as cursor:
            self._delete(cursor, table, day)

    def row_counts(self, table: SinkTable) -> Mapping[date, int]:
        """See `Sink`."""
        with self._transaction() as cursor:
            if not _exists(cursor, table.name):
                return {}
            cursor.execute(SQL("SELECT day, count(*) FROM {} GROUP BY day").format(Identifier(table.name)))
            return dict(cursor.fetchall())

    def close(self) -> None:
        """See `Sink`."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _prepare(self, cursor: Any, table: SinkTable, schema: pa.Schema) -> None:
        """Creates tables and columns that are missing, and waits for another export of the same table."""
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"imgpipeline {table.name}"])
        cursor.execute("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s)", [f'"{table.name}"'])
        columns = {name for (name,) in cursor.fetchall()}
        if columns.issuperset(schema.names):
            return  # the statements below lock readers out until the end of the transaction
        cursor.execute(_CREATE_VERSIONS)
        if not columns:  # it is new, or somebody dropped it
            cursor.execute("DELETE FROM imgpipeline_exports WHERE table_name = %s", [table.name])
        name = Identifier(table.name)
        cursor.execute(SQL("CREATE TABLE IF NOT EXISTS {} (day date)").format(name))
        for field in schema:
            added = SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}")
            cursor.execute(added.format(name, Identifier(field.name), SQL(_TYPES.get(field.type, "timestamptz"))))
        key, unique = SQL(", ").join(map(Identifier, (*table.key, "day"))), Identifier(f"{table.name}_key")
        cursor.execute(SQL("CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} ({})").format(unique, name, key))
        cursor.execute(SQL("CREATE INDEX IF NOT EXISTS {} ON {} (day)").format(Identifier(f"{table.name}_day"), name))
        if table is _FRAME_PATHS:
            cursor.execute(_FRAMES_VIEW)

    def _delete(self, cursor: Any, table: SinkTable, day: date) -> None:
        cursor.execute(SQL("DELETE FROM {} WHERE day = %s").format(Identifier(table.name)), [day])
        cursor.execute(_DELETE_VERSION, [table.name, day])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        name = f"the sink {self._config.name} ({self._config.url})"
        try:
            if self._open is None or self._open.closed:
                self._open = self._connect()
            with self._open, self._open.cursor() as cursor:
                cursor.execute("SET LOCAL TIME ZONE 'UTC'")
                yield cursor
        except errors.InsufficientPrivilege as error:
            raise ConfigurationError(
                f"PostgreSQL refuses {name}: {_first_line(error)}", next_step="grant its user CREATE on its schema"
            ) from None
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            self.close()
            if "authentication failed" in str(error) or "does not exist" in str(error):
                raise ConfigurationError(
                    f"PostgreSQL refuses {name}: {_first_line(error)}", next_step="correct user, password and database"
                ) from None
            raise TransientError(f"{name} does not answer: {_first_line(error)}") from None
        except psycopg2.Error as error:
            raise PermanentError(
                f"PostgreSQL refuses rows of {name}: {_first_line(error)}",
                next_step="if its schema has a table or view of that name from another program, rename or drop it, or "
                "choose another schema in the URL: ?options=-csearch_path%3Dcameras",
            ) from None

    def _connect(self) -> Connection:
        password = self._config.password
        secret = {"password": password.get_secret_value()} if password else {}
        return psycopg2.connect(self._config.url, **secret, connect_timeout=10, application_name="imgpipeline")


class _CsvReader:
    """Rows as the file that COPY reads: NULL is an empty field, and a string is quoted."""

    def __init__(self, rows: pa.RecordBatchReader) -> None:
        self._rows = rows
        self._options = pyarrow.csv.WriteOptions(include_header=False)
        self._left = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes; none at the end."""
        while not self._left:
            batch = next(self._rows, None)
            if batch is None:
                return b""
            written = pa.BufferOutputStream()
            pyarrow.csv.write_csv(batch, written, self._options)
            self._left = memoryview(written.getvalue())
        part, self._left = self._left[:size], self._left[size:]
        return bytes(part)


def _exists(cursor: Any, table: str) -> bool:
    cursor.execute("SELECT to_regclass(%s)", [f'"{table}"'])
    return bool(cursor.fetchone()[0])


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
