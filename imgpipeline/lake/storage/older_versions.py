"""Day tables of an older schema version, as queries and the audit read them until their day is built again.

Version 2 has no table `notices`, and no release that wrote it could read a notice: up to its tables' ends, such a day
has none. Its other tables lack the columns that came with version 3, which are NULL then, and call `kafka_offset`
`offset`.
"""

from collections.abc import Mapping

from imgpipeline.lake.schema import DEAD_LETTERS, DETECTIONS, FRAMES, NOTICES, READABLE_VERSIONS, SCHEMA_VERSION, Table
from imgpipeline.lake.storage.engine import identifier
from imgpipeline.lake.storage.manifest import Manifest

_RENAMED = {(DEAD_LETTERS.name, "kafka_offset"): "offset"}
_ADDED = {
    FRAMES.name: {"gate_measurements", "clock_source", "region_of_interest", "detectors"},
    DETECTIONS.name: {"precision"},
}


def columns_of(table: Table, version: int, row: str) -> str:
    """Returns the columns of a day table as a query selects them from rows of a readable version.

    Args:
        table: The day table as it is now.
        version: Of the rows.
        row: Alias of the rows.
    """
    return ", ".join(
        f"{_value(table.name, column.name, column.duckdb_type, version, row)} AS {identifier(column.name)}"
        for column in table.columns
    )


def _value(table: str, name: str, duckdb_type: str, version: int, row: str) -> str:
    if version < SCHEMA_VERSION and name in _ADDED.get(table, ()):
        return f"NULL::{duckdb_type}"
    stored = _RENAMED.get((table, name), name) if version < SCHEMA_VERSION else name
    return f"{row}.{identifier(stored)}"


def is_complete(manifests: Mapping[str, Manifest], tables: tuple[str, ...]) -> bool:
    """Tells whether stored tables of a day hold all that there is of it up to their ends.

    Args:
        manifests: Of the tables that are stored, by name.
        tables: Names of all day tables.
    """
    versions = {manifest.schema_version for manifest in manifests.values()}
    missing = set(tables) - manifests.keys()
    if not versions <= set(READABLE_VERSIONS):
        return False
    return not missing or (missing == {NOTICES.name} and versions == {READABLE_VERSIONS[0]})
