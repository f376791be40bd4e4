"""Writing the rows of a query as one Parquet object.

Owns the format (zstd, the manifest in the footer) and the put over the version that was read. It promises that a table
of any size is put in one piece without being in this process's memory as a whole: the file is mapped, and the system
holds of it what it has room for. What the rows are, and when they are written, belongs to `day_tables` and
`summaries`.
"""

import mmap
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from imgpipeline.faultpoints import reach
from imgpipeline.lake.engine import Engine, disk_errors, quoted
from imgpipeline.lake.manifest import FOOTER_KEY, Manifest, Stored
from imgpipeline.objectstore import ObjectMissingError, ObjectStore


def hash_rows(engine: Engine, query: str) -> str:
    """Returns a hash of the rows of a query, in whatever order: the same rows have the same one, whenever made."""
    counted = f"SELECT count(*), coalesce(sum(hash(whole_row)::HUGEINT), 0) FROM ({query}) AS whole_row"  # noqa: S608 - own SQL
    return sha256(repr(engine.run(counted)[0]).encode()).hexdigest()[:16]


def write_parquet(engine: Engine, query: str, manifest: Manifest) -> memoryview:
    """Writes the rows of a query, in its order, with a manifest and the rows' hash in the footer.

    Args:
        engine: DuckDB.
        query: A query of this project.
        manifest: What the file says of itself.

    Returns:
        The file's bytes: mapped, not read, and gone when nobody has them any more.

    Raises:
        PermanentError: The local disk is full.
    """
    path = engine.folder / f"{manifest.table}.parquet"
    full = replace(manifest, content=hash_rows(engine, query))
    # Level 1 takes a fifth of the time less than zstd's default, and the files are no larger.
    engine.run(
        f"COPY ({query}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
        f"KV_METADATA {{{FOOTER_KEY}: {quoted(full.to_json())}}})"
    )
    reach("table write", manifest.table)
    with disk_errors(engine.folder):
        return _mapped(path)


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    path.unlink()
    return mapped


def replace_whole(store: ObjectStore, key: str, data: memoryview, before: Stored | None) -> bool:
    """Puts an object over the version that was read; tells whether it is there now.

    A refusal may be the client's own repeated request: what is stored decides.
    """
    reach("table put", key)
    is_there = store.replace(key, data, before.e_tag if before else None) or _holds(store, key, data)
    reach("table put done", key)
    return is_there


def _holds(store: ObjectStore, key: str, data: memoryview) -> bool:
    found = store.head(key)
    if found is None or found.size_bytes != len(data):
        return False
    try:
        return data == store.get(key)
    except ObjectMissingError:
        return False
