"""What a column and a table are, and the version of all columns."""

from dataclasses import dataclass

SCHEMA_VERSION = 3
"""Written into every manifest; raised when a column is added, removed or changes its meaning."""
READABLE_VERSIONS = (2, 3)
"""The versions of day tables that queries read (`lake.build.day_rows`). A build replaces all but the last."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """Its name in Parquet and SQL."""
    duckdb_type: str
    """DuckDB's type; times are `TIMESTAMPTZ` in UTC."""
    unit: str
    """Unit or range of its values; empty if it has none."""
    meaning: str
    """What it says, for a person."""
    made_of: tuple[str, ...] = ()
    """The columns of stored tables that its values come from, such as `detections.timestamp`; empty if they come
    from the ledger."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table or view of the lake."""

    name: str
    """Its name in SQL, and in keys if it is stored."""
    row: str
    """What one row is."""
    columns: tuple[Column, ...]
    """Its columns, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def typed_columns(self) -> str:
        """The columns as `CREATE TABLE` takes them: quoted names with types."""
        return ", ".join(f'"{column.name}" {column.duckdb_type}' for column in self.columns)
