"""Metadata of the assets that are tables: owner, and the columns with types, units, meanings and lineage.

The columns are defined in `lake.schema`, which docs/tables.md is also generated from.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from imgpipeline.lake.schema.tables import Column, Table

OWNERS = ["team:imgpipeline"]
_UNIQUE: Mapping[str, frozenset[str]] = {"frames": frozenset({"frame_id"})}
"""Columns whose values are unique within a day, by table."""


def table_metadata(table: "Table") -> dict[str, Any]:
    """Returns the column schema and the column lineage, under Dagster's names."""
    return {
        "dagster/column_schema": dg.TableSchema(
            columns=[_column(table, column) for column in table.columns],
            constraints=dg.TableConstraints(other=[f"one row: {table.row}"]),
        ),
        "dagster/column_lineage": dg.TableColumnLineage(
            {column.name: [_dependency(source) for source in column.made_of] for column in table.columns}
        ),
    }


def _column(table: "Table", column: "Column") -> dg.TableColumn:
    return dg.TableColumn(
        column.name,
        column.duckdb_type,
        description=column.meaning,
        constraints=dg.TableColumnConstraints(
            nullable="NULL" in column.meaning,
            unique=column.name in _UNIQUE.get(table.name, frozenset()),
            other=[column.unit.replace("`", "")] if column.unit else [],
        ),
        tags={},
    )


def _dependency(source: str) -> dg.TableColumnDep:
    table, _, column = source.rpartition(".")
    return dg.TableColumnDep(dg.AssetKey(table), column)
