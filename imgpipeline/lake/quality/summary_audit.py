"""Makes a stored summary again and compares it with the stored one.

Uses the queries and settings in the summary's manifest, and the tables that the manifest names; where those are no
longer stored, the ledger up to the same ends. A query from the store can do no more than read these tables.
"""

import re
from collections.abc import Mapping

import duckdb

from imgpipeline.contracts.keys import summary_key
from imgpipeline.contracts.text import counted
from imgpipeline.errors import LedgerError, PermanentError
from imgpipeline.lake.build.ledger_rows import ROWS, keep_unique
from imgpipeline.lake.build.summaries import set_parameters
from imgpipeline.lake.build.summary_inputs import stored_key
from imgpipeline.lake.quality.audit_report import SummaryAudit
from imgpipeline.lake.quality.day_audit import DayReader
from imgpipeline.lake.storage.engine import Engine, all_rows, disk_errors, engine_errors, identifier, lock, open_engine
from imgpipeline.lake.storage.manifest import Manifest, parse_footer
from imgpipeline.lake.storage.pieces import fetch_table
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_NAME = re.compile(r"[a-z][a-z_]{0,99}")


def compare_summary(reader: DayReader, name: str) -> SummaryAudit:
    """Makes a stored summary again and compares every column of every row.

    Args:
        reader: The ledger of its day.
        name: The summary.

    Raises:
        ObjectMissingError: There is no such summary.
        TransientError: The store does not answer.
    """
    day, key = reader.day, summary_key(name, reader.day)
    stale = True
    with open_engine(memory=reader.memory) as engine:
        path = engine.folder / "summary.parquet"
        with disk_errors(engine.folder):
            fetch_table(reader.store, key, path)
        try:
            manifest = _checked(parse_footer(path, key))
            engine.run(f"CREATE TABLE summary AS {all_rows(path)}")
            queries = {}
            stale = not _open_stored(engine, reader.store, manifest)
            if stale:
                _load_ledger(engine, reader, manifest)
                queries = dict(manifest.queries)
            different = _remake(engine, {**queries, "again": manifest.sql}, manifest.parameters)
        except (LedgerError, PermanentError) as error:
            return SummaryAudit(name, day, False, stale, f"{key}: {error.message}")
    problem = f"{key} differs in {counted(different, 'row')} when it is rebuilt." if different else None
    return SummaryAudit(name, day, problem is None, stale, problem)


def _checked(manifest: Manifest) -> Manifest:
    """Refuses names that no release has written: they become parts of keys, paths and statements."""
    for names, what in (({*manifest.made_of, *manifest.queries}, "table"), (manifest.parameters, "setting")):
        if not all(_NAME.fullmatch(name) for name in names):
            raise PermanentError(f"its manifest names no {what}.")
    return manifest


def current_versions(store: ObjectStore, manifest: Manifest) -> dict[str, str]:
    """Returns the version that each of a summary's inputs has now; empty if it is gone."""
    infos = {table: store.head(stored_key(table, manifest.day)) for table in manifest.made_of}
    return {table: info.e_tag if info else "" for table, info in infos.items()}


def _open_stored(engine: Engine, store: ObjectStore, manifest: Manifest) -> bool:
    """Creates the inputs from the stored tables; False if one of them is another version by now."""
    if not manifest.made_of or current_versions(store, manifest) != manifest.made_of:
        return False
    for table, version in manifest.made_of.items():
        path = engine.folder / f"{table}-read.parquet"
        try:
            with disk_errors(engine.folder):
                found = fetch_table(store, stored_key(table, manifest.day), path)
        except ObjectMissingError:
            found = ""
        if found != version:
            return False
    for table in manifest.made_of:
        path = engine.folder / f"{table}-read.parquet"
        engine.run(f"CREATE VIEW {identifier(table)} AS {all_rows(path, day=manifest.day)}")
    return True


def _load_ledger(engine: Engine, reader: DayReader, manifest: Manifest) -> None:
    """Creates the day tables as they were made up to the summary's ends."""
    reader.load(engine, manifest.ends)
    keep_unique(engine)
    for table, rows in ROWS.items():
        engine.run(f"CREATE TABLE {identifier(table)} AS {rows}")


def _remake(engine: Engine, queries: Mapping[str, str], parameters: Mapping[str, float]) -> int:
    """Answers how many rows differ. The queries come from the store: they can do no more than read these tables."""
    set_parameters(engine, parameters)
    lock(engine)
    for name, sql in queries.items():
        with engine_errors():
            statements = engine.connection.extract_statements(sql)
        if [found.type for found in statements] != [duckdb.StatementType.SELECT]:
            raise PermanentError("its manifest names no query.")
        engine.run(f"CREATE TABLE {identifier(name)} AS {sql}")
    engine.run("ALTER TABLE again DROP COLUMN day")
    differences = ("SELECT * FROM again EXCEPT ALL SELECT * FROM summary",
                   "SELECT * FROM summary EXCEPT ALL SELECT * FROM again")  # fmt: skip
    return max(int(engine.value(f"SELECT count(*) FROM ({rows})")) for rows in differences)  # noqa: S608 - own names
