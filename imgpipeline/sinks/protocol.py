"""The contract of a sink, and the tables that sinks copy.

A sink stores the version of each day that it has, together with the rows. So there is no checkpoint: `exporting`
compares the versions with those of the store, and a sink that was away, or was restored from a copy, catches up.

To add a sink, write a class with these methods and register it as an entry point of the group `imgpipeline.sinks`
(docs/sinks.md has an example).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import SecretStr

from imgpipeline.lake.schema.events import EVENTS
from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES, LABEL_COUNTS, Table
from imgpipeline.lake.schema.tracks import TRACKS
from imgpipeline.lake.storage.engine import identifier

if TYPE_CHECKING:
    import pyarrow as pa

GROUP = "imgpipeline.sinks"
"""Entry points of this group are sinks by their kind, the scheme of a sink's URL."""
_FLAT = frozenset({"VARCHAR", "BIGINT", "INTEGER", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMPTZ"})


@dataclass(frozen=True)
class SinkTable:
    """A table as a sink gets it. All columns are scalars: lists, maps and structs are JSON text."""

    name: str
    """Name in the target."""
    stored: tuple[str, ...]
    """The stored tables of a day that it is made of; it has the days of the first one."""
    query: str
    """DuckDB query over these tables. `day` is its first column."""
    key: tuple[str, ...]
    """The columns that identify a row within a day."""

    @cached_property
    def recipe(self) -> str:
        """Hash of the query, a part of the version: a release that changes the columns exports all days again."""
        return sha256(f"{self.query}{self.key}".encode()).hexdigest()[:8]


def as_stored(table: Table, *key: str) -> SinkTable:
    """Returns a stored table with all of its columns."""
    columns = [
        identifier(column.name)
        if column.duckdb_type in _FLAT
        else f"to_json({identifier(column.name)})::VARCHAR AS {identifier(column.name)}"
        for column in table.columns
    ]
    return SinkTable(table.name, (table.name,), f"SELECT {', '.join(columns)} FROM {table.name}", key)  # noqa: S608 - own names


FRAMES_AS_STORED = as_stored(FRAMES, "frame_id")
SHARED_TABLES = (
    as_stored(DETECTIONS, "frame_id", "detection_number"),
    as_stored(LABEL_COUNTS, "hour", "source", "label"),
    as_stored(TRACKS, "track_id"),
    as_stored(EVENTS, "event_id"),
)
"""Tables that databases get as they are stored."""


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """Where a sink is."""

    name: str
    kind: str
    """The name of its entry point."""
    url: str
    """Without a password, so it may be logged and shown."""
    password: SecretStr | None = None
    tables: tuple[str, ...] | None = None
    """Names of the tables to copy; None: all that the sink has."""


@dataclass(frozen=True, slots=True)
class StoredDay:
    """A day of a table in the target."""

    version: str
    rows: int
    """Number of rows that were written with this version."""
    exported_at: datetime


class Sink(Protocol):
    """A target of exports. Its constructor takes a `SinkConfig` and connects to nothing.

    Every method raises TransientError if the target does not answer, ConfigurationError if it refuses the login, and
    PermanentError if it refuses the rows. No message contains a secret.
    """

    tables: tuple[SinkTable, ...]
    """The tables that it can copy."""

    def check(self) -> str:
        """Connects, and returns the name and version of the target."""

    def stored_days(self, table: SinkTable) -> Mapping[date, StoredDay]:
        """Returns the days that the target has; empty before the first export."""

    def replace_day(self, table: SinkTable, day: date, rows: "pa.RecordBatchReader", version: str) -> int:
        """Replaces a day by other rows, which may be none, and returns their number.

        Repeating it changes nothing. If it fails or the process is killed, the day has the old version, or none.
        """

    def remove_day(self, table: SinkTable, day: date) -> None:
        """Removes the rows and the version of a day."""

    def row_counts(self, table: SinkTable) -> Mapping[date, int]:
        """Counts the rows that the target has now, by day. Days without rows may be missing."""

    def close(self) -> None:
        """Closes the connection."""


@runtime_checkable
class Searchable(Protocol):
    """What the sinks of search engines also have."""

    def search(self, text: str, size: int) -> list[dict[str, Any]]:
        """Returns the first documents that match."""

    def count(self) -> int:
        """Returns the number of documents."""
