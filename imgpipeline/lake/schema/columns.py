"""Columns and tables as values, and the version of all columns."""

from dataclasses import dataclass

SCHEMA_VERSION = 4
"""Stored in every manifest; a table with another version is refused. Raise it when a column is added, removed or
changes its meaning."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """Name in Parquet and SQL."""
    duckdb_type: str
    """DuckDB's type; times are `TIMESTAMPTZ` in UTC."""
    unit: str
    """Unit or range of the values; empty if there is none."""
    meaning: str
    """Description for readers. A column that can be NULL says so here."""
    made_of: tuple[str, ...] = ()
    """Columns of stored tables that the values come from, such as `detections.timestamp`; empty if they come from
    the ledger."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table or view of the lake."""

    name: str
    """Name in SQL, and in keys if the table is stored."""
    row: str
    columns: tuple[Column, ...]
    """All columns, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def typed_columns(self) -> str:
        """The columns as `CREATE TABLE` takes them: quoted names with types."""
        return ", ".join(f'"{column.name}" {column.duckdb_type}' for column in self.columns)
