"""Writing the rows of a query as one Parquet file, zstd with a document in the footer.

The file is mapped, so a table of any size is put without being in this process's memory as a whole.
"""

import mmap
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from imgpipeline.faultpoints import reach
from imgpipeline.lake.storage.engine import Engine, disk_errors, quoted
from imgpipeline.lake.storage.manifest import FOOTER_KEY, Manifest
from imgpipeline.lake.storage.pieces import PIECES_KEY, plan_pieces


def hash_rows(engine: Engine, query: str) -> str:
    """Returns a hash of the rows of a query, in whatever order: the same rows have the same one, whenever made."""
    counted = f"SELECT count(*), coalesce(sum(hash(whole_row)::HUGEINT), 0) FROM ({query}) AS whole_row"  # noqa: S608 - own SQL
    return sha256(repr(engine.run(counted)[0]).encode()).hexdigest()[:16]


def write_parquet(engine: Engine, query: str, manifest: Manifest, *, object_bytes: int) -> memoryview:
    """Writes the rows of a query, in its order, with a manifest and the rows' hash in the footer.

    Args:
        engine: DuckDB.
        query: A query of this project.
        manifest: What the file says of itself.
        object_bytes: As for `write_rows`.

    Returns:
        The file's bytes, mapped.

    Raises:
        PermanentError: The local disk is full.
    """
    footer = replace(manifest, content=hash_rows(engine, query)).to_json()
    return write_rows(engine, manifest.table, query, footer, object_bytes=object_bytes)


def write_rows(engine: Engine, name: str, query: str, footer: str, *, object_bytes: int) -> memoryview:
    """Writes the rows of a query, in its order, with a document in the footer.

    A file that is too large for one object is written once more, with a footer that names its pieces (`pieces`).

    Args:
        engine: DuckDB.
        name: What the local file is called.
        query: A query of this project.
        footer: JSON of what the file says of itself.
        object_bytes: The largest object (the setting `table_object_bytes`).

    Returns:
        The file's bytes: mapped, not read, and released with the last reference.

    Raises:
        PermanentError: The local disk is full.
    """
    path = engine.folder / f"{name}.parquet"
    footers = {FOOTER_KEY: footer}
    _copy(engine, query, path, footers)
    pieces = plan_pieces(path, object_bytes)
    if pieces:
        _copy(engine, query, path, {**footers, PIECES_KEY: pieces.to_json()})
    reach("table write", name)
    with disk_errors(engine.folder):
        return _mapped(path)


def _copy(engine: Engine, query: str, path: Path, footers: Mapping[str, str]) -> None:
    named = ", ".join(f"{key}: {quoted(text)}" for key, text in footers.items())
    # Level 1 takes a fifth of the time less than zstd's default, and the files are no larger.
    engine.run(
        f"COPY ({query}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
        f"KV_METADATA {{{named}}})"
    )


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    path.unlink()
    return mapped
