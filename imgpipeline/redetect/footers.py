"""Parquet files with what they say of themselves in their footer.

Owns writing and reading that JSON document, under the same key as the day tables' manifests. It promises that document
and version (e-tag) belong together. What stands in it belongs to `manifest` and `comparison`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imgpipeline.errors import PermanentError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.engine import Engine, disk_errors, quoted
from imgpipeline.lake.manifest import FOOTER_KEY, fetch_footer
from imgpipeline.objectstore import ObjectStore


@dataclass(frozen=True, slots=True)
class Footer:
    """What one stored object says of itself."""

    document: Mapping[str, Any]
    """The JSON document."""
    e_tag: str
    """Version of the object."""
    size_bytes: int
    """Size of the object."""


def read_footer(store: ObjectStore, key: str) -> Footer | None:
    """Returns what an object says of itself, or None where there is no such object.

    Raises:
        PermanentError: It is no Parquet file of this project.
    """
    tail = fetch_footer(store, key)
    return Footer(parse_footer(tail.data, key), tail.e_tag, tail.size_bytes) if tail else None


def parse_footer(data: bytes, key: str) -> Mapping[str, Any]:
    """Reads the document out of a Parquet file, or out of the end of one.

    Raises:
        PermanentError: It is no Parquet file, or one without such a document.
    """
    try:
        metadata: dict[bytes, bytes] = pq.read_metadata(pa.BufferReader(data)).metadata or {}
        document = json.loads(metadata[FOOTER_KEY.encode()])
        if not isinstance(document, dict):
            raise TypeError("the document is no object")
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise PermanentError(
            f"{key} is no Parquet file of this project ({type(error).__name__}: {error}).",
            next_step="move that object aside; it is then made again",
        ) from None
    return document


def write_parquet(engine: Engine, name: str, query: str, document: Mapping[str, Any]) -> bytes:
    """Returns the rows of a query as a Parquet file (zstd) with a document in its footer."""
    path = engine.folder / f"{name}-written.parquet"
    text = json.dumps(document, ensure_ascii=False)
    engine.run(
        f"COPY ({query}) TO {quoted(str(path))} "
        f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{FOOTER_KEY}: {quoted(text)}}})"
    )
    with disk_errors(engine.folder):
        data = path.read_bytes()
        path.unlink()
    return data


def put_over(store: ObjectStore, key: str, data: bytes, e_tag: str | None) -> bool:
    """Puts an object over the version that was read (None: where none was); tells whether it is there now.

    A refusal may be the client's own repeated request: what is stored decides.
    """
    reach("redetection put", key)
    is_there = store.replace(key, data, e_tag) or store.get(key) == data
    reach("redetection put done", key)
    return is_there
