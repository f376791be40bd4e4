"""ClickHouse over HTTP: a day is a partition, which one statement replaces, so readers see the old or the new rows.

clickhouse://user@host:8123/database, clickhouse+https://user@host:8443/database
"""

import contextlib
from collections.abc import Generator, Iterator, Mapping
from datetime import date
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError, ProgrammingError

from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.lake.schema.tables import FRAMES
from imgpipeline.lake.storage.engine import identifier
from imgpipeline.sinks.protocol import FRAMES_AS_STORED, SHARED_TABLES, SinkConfig, SinkTable, StoredDay

_CREATE_VERSIONS = """
CREATE TABLE IF NOT EXISTS imgpipeline_exports
(table_name String, day Date32, version String, rows Int64, exported_at DateTime64(6, 'UTC'))
ENGINE = ReplacingMergeTree(exported_at) ORDER BY (table_name, day)
"""
_DAYS = "SELECT day, version, rows, exported_at FROM imgpipeline_exports FINAL WHERE table_name = %(name)s"
_INSERT_VERSION = "INSERT INTO imgpipeline_exports SELECT %(name)s, %(day)s, %(version)s, %(rows)s, now64(6)"
_TABLES = "SELECT name FROM system.tables WHERE database = currentDatabase() AND match(name, %(pattern)s)"
_IMAGES_METADATA = SinkTable(
    "images_metadata",
    (FRAMES.name,),
    """
    SELECT day, "timestamp"::TIMESTAMP_S AS "timestamp", source, brightness, image_width AS width,
           image_height AS height, source_image_path AS path
    FROM frames
    """,
    ("source", "timestamp"),
)
_TYPES = {
    pa.string(): "String",
    pa.int64(): "Int64",
    pa.int32(): "Int32",
    pa.float64(): "Float64",
    pa.bool_(): "Bool",
    pa.date32(): "Date32",
    pa.timestamp("s"): "DateTime('UTC')",
}
_REFUSED = {81, 192, 193, 194, 497, 516}
"""ClickHouse's codes of errors: unknown database or user, wrong password, no grant."""
_TRANSIENT = {None, 60, 159, 202, 209, 210, 218, 236, 241, 242, 243, 252, 319, 473, 999}
"""A proxy's answer; the staging table is gone (60, 218); too busy, no memory or space, shutting down."""


class ClickHouseSink:
    """Tables of a ClickHouse database."""

    tables = (_IMAGES_METADATA, FRAMES_AS_STORED, *SHARED_TABLES)

    def __init__(self, config: SinkConfig) -> None:
        self._config = config
        self._open: Client | None = None
        self._prepared: set[SinkTable] = set()

    def check(self) -> str:
        """See `Sink`."""
        with self._client() as client:
            return f"ClickHouse {client.command('SELECT version()')}"

    def stored_days(self, table: SinkTable) -> Mapping[date, StoredDay]:
        """See `Sink`."""
        with self._client() as client:
            found = client.query(_DAYS, {"name": table.name}).result_rows if _exists(client, table) else ()
            return {day: StoredDay(version, *rest) for day, version, *rest in found if version}

    def replace_day(self, table: SinkTable, day: date, rows: pa.RecordBatchReader, version: str) -> int:
        """See `Sink`."""
        with self._client() as client:
            if table not in self._prepared:
                _prepare(client, table, rows.schema)
                self._prepared.add(table)
            return _replace(client, table, day, rows, version)

    def remove_day(self, table: SinkTable, day: date) -> None:
        """See `Sink`."""
        with self._client() as client:
            if _exists(client, table):
                _replace(client, table, day, None, "")

    def row_counts(self, table: SinkTable) -> Mapping[date, int]:
        """See `Sink`."""
        counts = f"SELECT day, count() FROM {identifier(table.name)} GROUP BY day"  # noqa: S608 - a quoted name
        with self._client() as client:
            return dict(map(tuple, client.query(counts).result_rows)) if _exists(client, table) else {}

    def close(self) -> None:
        """See `Sink`."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @contextlib.contextmanager
    def _client(self) -> Iterator[Client]:
        name = f"the sink {self._config.name} ({self._config.url})"
        try:
            if self._open is None:
                self._open = self._connect()
                self._open.command(_CREATE_VERSIONS)
            yield self._open
        except OperationalError as error:
            raise TransientError(f"{name} does not answer: {error}") from None
        except DatabaseError as error:
            if isinstance(error, ProgrammingError) or error.code in _REFUSED:
                raise ConfigurationError(
                    f"ClickHouse refuses {name}: {error}",
                    next_step="correct database, user and password, and grant SELECT, INSERT, CREATE, ALTER and DROP",
                ) from None
            if error.code in _TRANSIENT:
                raise TransientError(f"{name} takes no rows now, or another export goes on: {error}") from None
            raise PermanentError(
                f"ClickHouse refuses rows of {name}: {error}",
                next_step="if the table has columns of other types, drop it; it is then exported again",
            ) from None

    def _connect(self) -> Client:
        return clickhouse_connect.get_client(
            dsn=self._config.url,
            username=unquote(urlsplit(self._config.url).username or "default"),
            interface="https" if self._config.url.startswith("https:") else "http",
            password=self._config.password.get_secret_value() if self._config.password else "",
            connect_timeout=10,
            autogenerate_session_id=False,
            tz_mode="aware",
        )


def _exists(client: Client, table: SinkTable) -> bool:
    return bool(client.command(f"EXISTS TABLE {identifier(table.name)}"))


def _prepare(client: Client, table: SinkTable, schema: pa.Schema) -> None:
    """Creates the table and columns that are missing."""
    types = {field.name: _TYPES.get(field.type, "DateTime64(6, 'UTC')") for field in schema}
    plain = {"day", *table.key}
    columns = [f"{identifier(name)} {kind if name in plain else f'Nullable({kind})'}" for name, kind in types.items()]
    engine = f"ENGINE = MergeTree PARTITION BY day ORDER BY ({', '.join(map(identifier, table.key))})"
    client.command(f"CREATE TABLE IF NOT EXISTS {identifier(table.name)} ({', '.join(columns)}) {engine}")
    added = ", ".join(f"ADD COLUMN IF NOT EXISTS {column}" for column in columns)
    client.command(f"ALTER TABLE {identifier(table.name)} {added}")


def _replace(client: Client, table: SinkTable, day: date, rows: pa.RecordBatchReader | None, version: str) -> int:
    """Replaces rows and version of a day; without rows it removes them.

    ClickHouse has no transaction over two tables. So the version is removed, then the rows change, then the new version
    follows: an export that dies on the way leaves a day without a version, which is exported again. A version of an
    export that another one has overtaken would belong to other rows; each statement reads the staging table of its
    export, which the other one has dropped, so it fails.
    """
    with _staging(client, table) as staging:

        def write_version(version: str, count: int) -> None:
            values = {"name": table.name, "day": day, "version": version, "rows": count}
            client.command(f"{_INSERT_VERSION} FROM (SELECT count() FROM {staging})", values)  # noqa: S608 - own SQL

        if rows is not None:
            client.raw_insert(staging, rows.schema.names, _arrow_stream(rows), fmt="ArrowStream")
        [(count,)] = client.query(f"SELECT count() FROM {staging}").result_rows  # noqa: S608 - own SQL
        write_version("", 0)
        # To replace a partition by none is refused.
        change = f"REPLACE PARTITION '{day}' FROM" if count else f"MOVE PARTITION '{day}' TO TABLE"
        client.command(f"ALTER TABLE {identifier(table.name)} {change} {staging}")
        write_version(version, count)
        return int(count)


@contextlib.contextmanager
def _staging(client: Client, table: SinkTable) -> Iterator[str]:
    """Yields the quoted name of an empty copy of a table, after dropping those of other exports, killed ones included.

    Of two exports that begin at once, at least one sees the other's. SYNC waits for the statements that use it.
    """
    prefix = f"imgpipeline_staging_{table.name}_"
    own = f"{prefix}{uuid4().hex}"
    client.command(f"CREATE TABLE {identifier(own)} AS {identifier(table.name)}")
    try:
        found = client.query(_TABLES, {"pattern": f"^{prefix}[0-9a-f]{{32}}$"}).result_rows
        for name in {name for (name,) in found} - {own}:
            client.command(f"DROP TABLE IF EXISTS {identifier(name)} SYNC")
        yield identifier(own)
    finally:
        with contextlib.suppress(DatabaseError):
            client.command(f"DROP TABLE IF EXISTS {identifier(own)} SYNC")


def _arrow_stream(rows: pa.RecordBatchReader) -> Generator[bytes, None, None]:
    """Yields rows as an Arrow stream. The client would send bytes again, and so twice, if only the answer got lost."""
    yield rows.schema.serialize().to_pybytes()
    for batch in rows:
        yield batch.serialize().to_pybytes()
