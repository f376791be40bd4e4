"""Specs of the assets that are tables: owner, description, and the columns with types, units, meanings and lineage.

The columns are defined in `lake.schema`, which docs/tables.md is also generated from.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from imgpipeline.lake.schema import Column, Table

OWNERS = ["team:imgpipeline"]
_UNIQUE: Mapping[str, frozenset[str]] = {"frames": frozenset({"frame_id"})}
"""Columns whose values are unique within a day, by table."""


def table_spec(
    table: Table,
    description: str,
    *,
    deps: Sequence[dg.AssetKey],
    group: str,
    kinds: set[str],
    code_version: str,
    automation: dg.AutomationCondition[Any] | None,
    freshness: dg.FreshnessPolicy | None = None,
) -> dg.AssetSpec:
    """Returns the spec of a table's asset.

    Args:
        table: The table.
        description: Text for the UI.
        deps: Its inputs.
        group: Its group.
        kinds: Kinds that the UI shows.
        code_version: Recipe of the table.
        automation: The condition that requests builds; None: nothing does.
        freshness: Its freshness policy.
    """
    return dg.AssetSpec(
        table.name,
        deps=deps,
        group_name=group,
        kinds=kinds,
        owners=OWNERS,
        automation_condition=automation,
        code_version=code_version,
        metadata=table_metadata(table),
        description=description,
        freshness_policy=freshness,
    )


def table_metadata(table: Table) -> dict[str, Any]:
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


def _column(table: Table, column: Column) -> dg.TableColumn:
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
