"""The columns of a table as Dagster shows them: types, units, meanings, and the upstream columns of each.

The columns are defined in `lake.schema`, from which docs/tables.md is also generated.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from imgpipeline.lake.schema import Column, Table

_UNIQUE: Mapping[str, frozenset[str]] = {"frames": frozenset({"frame_id"})}
"""Columns that no two rows of a day have in common, by table."""


def table_metadata(table: Table) -> dict[str, Any]:
    """Returns what an asset says of its columns, under the names by which Dagster knows schema and column lineage."""
    return {"dagster/column_schema": column_schema(table), "dagster/column_lineage": column_lineage(table)}


def column_schema(table: Table) -> dg.TableSchema:
    """Returns the columns with type, meaning, unit, and what always holds of them."""
    return dg.TableSchema(
        columns=[_column(table, column) for column in table.columns],
        constraints=dg.TableConstraints(other=[f"one row: {table.row}"]),
    )


def column_lineage(table: Table) -> dg.TableColumnLineage:
    """Returns the columns of other tables that each column is derived from."""
    return dg.TableColumnLineage(
        {column.name: [_dependency(made_of) for made_of in column.made_of] for column in table.columns}
    )


def _column(table: Table, column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        column.name,
        column.duckdb_type,
        description=column.meaning,
        constraints=dg.TableColumnConstraints(
            nullable="NULL" in column.meaning,
            unique=column.name in _UNIQUE.get(table.name, frozenset()),
            other=[_unit(column.unit)] if column.unit else [],
        ),
        tags={},
    )


def _unit(unit: str) -> str:
    return unit.replace("`", "")


def _dependency(made_of: str) -> dg.TableColumnDep:
    table, _, column = made_of.rpartition(".")
    return dg.TableColumnDep(dg.AssetKey(table), column)
