"""Stored tables: Parquet files whose footer holds a manifest, which names the inputs and the recipe of the table.

A table's *version* is a hash of its rows and of the ends that it covers. It is in the footer, so every copy of the
table has it. Manifests name their inputs by it, and `lake.days.derived` decides by it whether a table is current. The
e-tag, which the store gives to the object and changes when a store is copied, serves conditional writes and caches.
"""

import json
import mmap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from imgpipeline.contracts.keys import ChainId, day_table_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.errors import PermanentError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.schema.tables import SCHEMA_VERSION
from imgpipeline.lake.storage.engine import Engine, disk_errors, quoted
from imgpipeline.lake.storage.pieces import PIECES_KEY, Pieces, pieces_of, plan_pieces
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.reading import Tail, fetch_tail

ManifestT = TypeVar("ManifestT")
"""The manifest in an object's footer."""
FOOTER_KEY = "imgpipeline"
"""Key of the manifest in the Parquet footer."""
_TAIL_BYTES = 128 * 1024
"""Enough for the footers of nearly all tables; a longer one costs a second request."""


def _parse_ends(entries: Any) -> dict[ChainId, int]:
    return {ChainId(each["topic"], each["topic_id"], each["partition"]): int(each["end"]) for each in entries}


def _show_ends(ends: Mapping[ChainId, int]) -> list[dict[str, str | int]]:
    return [
        {"topic": chain.topic, "topic_id": chain.topic_id, "partition": chain.partition, "end": end}
        for chain, end in sorted(ends.items())
    ]


def _check_schema(version: int) -> int:
    if version != SCHEMA_VERSION:
        raise ValueError(f"its columns have version {version!r}, expected {SCHEMA_VERSION}")
    return version


Ends = Annotated[Mapping[ChainId, int], PlainValidator(_parse_ends), PlainSerializer(_show_ends)]
"""The end offset of each chain, in stored JSON."""
_Time = Annotated[datetime, PlainValidator(parse_time), PlainSerializer(format_time)]
_SchemaVersion = Annotated[int, AfterValidator(_check_schema)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseManifest:
    """What the manifests of all stored tables have in common."""

    table: str
    """Name of the table."""
    day: date
    """UTC day."""
    made_by: str
    """The recipe: hash of the code, SQL and settings that made the table, 16 hexadecimal digits."""
    made_of: Mapping[str, str] = field(default_factory=dict)
    """Version of each input, by name; empty for day tables."""
    ends: Ends = field(default_factory=dict)
    """The end up to which each chain was read; a chain that is not named had nothing of this day."""
    rows: int = 0
    """Number of rows; `write_parquet` sets it."""
    content: str = ""
    """Hash of the rows, whatever build made them; `write_parquet` sets it."""
    built_at: _Time
    """Time of the build, UTC."""

    @property
    def version(self) -> str:
        """The table's version; one that says nothing about ends is determined by its rows."""
        if not self.ends:
            return self.content
        return sha256(json.dumps([self.content, _show_ends(self.ends)], sort_keys=True).encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Returns the JSON for the footer."""
        return _adapter(type(self)).dump_json(self).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest(BaseManifest):
    """The inputs, recipe and content hash of a day table, a summary, or a table of events."""

    schema_version: _SchemaVersion = field(default_factory=lambda: SCHEMA_VERSION)
    duplicates: int = 0
    """Frames that were left out because another frame has their `frame_id` (day tables)."""
    sql: str = ""
    """The query that made a summary; empty for day tables."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """The settings read by a summary's query, or by the query of a summary among its inputs."""
    queries: Mapping[str, str] = field(default_factory=dict)
    """The queries of the summaries among the inputs, by name, each after those that it reads."""
    is_extended: bool = False
    """Whether newer segments were added to an older version of the table (day tables)."""
    repair: int = 0
    """Number of the last entry of the repair list that named the day when the table was built (day tables)."""
    made_with: Mapping[str, str] = field(default_factory=dict)
    """Other inputs by name: for events the rules as JSON, and a hash of each rule; otherwise empty."""


_Kind = TypeVar("_Kind", bound=BaseManifest)


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""What reads and writes a class of manifests; made once."""


class DamagedObjectError(PermanentError):
    """A stored object cannot be read, or is not of this project."""


@dataclass(frozen=True, slots=True)
class StoredObject(Generic[ManifestT]):
    """The manifest of an object, with the e-tag of the object that it was read from."""

    manifest: ManifestT
    e_tag: str
    """For conditional writes and caches."""
    size_bytes: int
    """Size of the object including its pieces."""
    pieces: Pieces | None = None
    """The pieces with the beginning of a large table; None for a table of one object."""


Stored = StoredObject[Manifest]
"""A stored day table or summary."""


def read_manifest(store: ObjectStore, table: str, day: date) -> Manifest | None:
    """Returns the manifest of a day table, or None if the day has none; raises DamagedObjectError."""
    found = read_stored(store, day_table_key(table, day))
    return found.manifest if found else None


def read_stored(store: ObjectStore, key: str) -> Stored | None:
    """Returns the manifest of a day table or summary, or None if there is no such object.

    Raises:
        DamagedObjectError: The object is not a Parquet file of this project.
    """
    return read_object(store, key, Manifest)


def read_object(store: ObjectStore, key: str, kind: type[_Kind]) -> StoredObject[_Kind] | None:
    """Returns the manifest of a stored table of any kind, or None if there is no such object.

    Args:
        kind: The class of its manifest; `BaseManifest` reads those of all tables.

    Raises:
        DamagedObjectError: The object is not a Parquet file of this project.
    """
    tail = fetch_footer(store, key)
    if tail is None:
        return None
    pieces = pieces_of(tail.data)
    size_bytes = tail.size_bytes + (pieces.all_bytes if pieces else 0)
    return StoredObject(parse_manifest(tail.data, key, kind), tail.e_tag, size_bytes, pieces)


def fetch_footer(store: ObjectStore, key: str) -> Tail | None:
    """Returns the end of a Parquet file including the whole footer; None if there is no such object."""
    wanted = _TAIL_BYTES
    try:
        while True:
            tail = fetch_tail(store, key, wanted)
            footer_bytes = int.from_bytes(tail.data[-8:-4], "little") + 8
            if footer_bytes <= len(tail.data) or len(tail.data) == tail.size_bytes:
                return tail
            wanted = footer_bytes
    except ObjectMissingError:
        return None


def parse_footer(source: bytes | memoryview | Path, key: str) -> Manifest:
    """Reads the manifest of a day table, a summary, or a table of events; as `parse_manifest`."""
    return parse_manifest(source, key, Manifest)


def parse_manifest(source: bytes | memoryview | Path, key: str, kind: type[_Kind]) -> _Kind:
    """Reads the manifest from a Parquet file or from the end of one.

    Args:
        source: The file, or bytes with at least its footer.
        key: The object's key, for messages.
        kind: As for `read_object`.

    Raises:
        DamagedObjectError: It is not a Parquet file, or has no manifest.
    """
    import pyarrow as pa  # noqa: PLC0415 - loads slowly; a detection run and the code location do not need it
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    try:
        file = source if isinstance(source, Path) else pa.BufferReader(source)
        metadata: dict[bytes, bytes] = pq.read_metadata(file).metadata or {}
        manifest: _Kind = _adapter(kind).validate_json(metadata[FOOTER_KEY.encode()])
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise unreadable(key, wrong) from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(key, f"{type(error).__name__}: {error}") from None
    return manifest


def unreadable(key: str, wrong: str) -> DamagedObjectError:
    """Returns the error for a stored table that cannot be read."""
    return DamagedObjectError(
        f"{key} is not a Parquet file with a manifest of this release ({wrong}).",
        next_step="move that object aside; it is then rebuilt",
    )


def join_ends(*several: Mapping[ChainId, int]) -> dict[ChainId, int]:
    """Returns the greatest end of each chain. Each end was read from a header, so the chain reaches that far."""
    joined: dict[ChainId, int] = {}
    for ends in several:
        for chain, end in ends.items():
            joined[chain] = max(end, joined.get(chain, 0))
    return joined


def covered_ends(*manifests: Manifest | None) -> dict[ChainId, int]:
    """Returns the offset in each chain that all tables cover. Segments after it are missing from at least one table.

    A missing table covers nothing.
    """
    several = [manifest.ends for manifest in manifests if manifest]
    if not several or len(several) < len(manifests):
        return {}
    return {chain: min(ends.get(chain, 0) for ends in several) for chain in several[0]}


def have_equal_ends(manifests: Iterable[BaseManifest | None]) -> bool:
    """Tells whether the stored tables of a day were made up to the same ends.

    If a build was killed or two builds raced, they were not. Each table is still correct, but a reader of several
    tables waits for equal ends, even if the ledger has nothing of the day between these ends.
    """
    ends = [manifest.ends for manifest in manifests if manifest is not None]
    return all(each == ends[0] for each in ends)


def hash_rows(engine: Engine, query: str) -> str:
    """Returns a hash of the rows of a query that does not depend on their order."""
    return _measure(engine, query)[1]


def _measure(engine: Engine, query: str) -> tuple[int, str]:
    counted = f"SELECT count(*), coalesce(sum(hash(whole_row)::HUGEINT), 0) FROM ({query}) AS whole_row"  # noqa: S608 - own SQL
    [found] = engine.run(counted)
    return found[0], sha256(repr(found).encode()).hexdigest()[:16]


def write_parquet(engine: Engine, query: str, manifest: _Kind, *, object_bytes: int) -> tuple[memoryview, _Kind]:
    """Writes the rows of a query, in its order, with a manifest that names their number and hash.

    Args:
        query: A query of this project.
        manifest: The manifest, without both.
        object_bytes: As for `write_rows`.

    Returns:
        The file as from `write_rows`, and its manifest.

    Raises:
        PermanentError: The local disk is full.
    """
    rows, content = _measure(engine, query)
    complete = replace(manifest, rows=rows, content=content)
    return write_rows(engine, manifest.table, query, complete.to_json(), object_bytes=object_bytes), complete


def write_rows(engine: Engine, name: str, query: str, footer: str, *, object_bytes: int) -> memoryview:
    """Writes the rows of a query as Parquet (zstd), in its order, with a document in the footer.

    A file that is too large for one object is written a second time, with a footer that names its pieces (`pieces`).

    Args:
        name: Name of the local file.
        query: A query of this project.
        footer: JSON for the footer.
        object_bytes: The largest object (the setting `table_object_bytes`).

    Returns:
        The file, memory-mapped, so a table of any size can be stored without loading it into memory.

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
    # Level 1 is a fifth faster than zstd's default, and the files are no larger.
    engine.run(
        f"COPY ({query}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, "
        f"KV_METADATA {{{named}}})"
    )


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    path.unlink()
    return mapped
