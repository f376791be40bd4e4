"""Stores tables that are too large for one object.

S3 has no conditional multipart upload, and a single request for gigabytes often fails. So the Parquet file is cut: its
beginning is stored in pieces below `table_pieces/`, and its end, with the footer, is the table's own object. The pieces
are stored first, under a name that is unique to the build. The object is stored last, replacing the version that was
read, and its footer names the pieces. So a version is either complete or absent, and only the footer decides which
pieces belong to it.

A reader that knows only the object gets an invalid Parquet file rather than part of the rows.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from imgpipeline.contracts.keys import piece_key, piece_prefix
from imgpipeline.errors import ImgpipelineError, PermanentError, TransientError
from imgpipeline.faultpoints import reach
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.objectstore.reading import fetch_tail, fetch_to_file

PIECES_KEY = "imgpipeline_pieces"
"""Key of the Parquet footer that names the pieces; absent in a table of one object."""
ABANDONED = timedelta(days=1)
"""Pieces that belong to no version are removed after this time. No running build is that old: Dagster ends a run that
builds tables after an hour."""
_ATTEMPTS = 8
_TAIL_BYTES = 2**20
"""Enough for the footer of a table in pieces; pieces of a table with a longer one stay until the next build."""
_SPARE_BYTES, _SPARE_SHARE = 1000, 16
"""The object holds the footer, this many bytes and a sixteenth of the table, so it may be larger than a piece."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """The beginning of a Parquet file, in pieces of equal size."""

    id: str
    """Unique to the build."""
    count: int
    """Number of pieces; they are numbered from 0."""
    size_bytes: int

    @property
    def all_bytes(self) -> int:
        """Total size of the pieces."""
        return self.count * self.size_bytes

    def to_json(self) -> str:
        """Returns the text for the Parquet footer."""
        return json.dumps(asdict(self))


def plan_pieces(path: Path, most_bytes: int) -> Pieces | None:
    """Returns how to cut a Parquet file, or None if it fits into one object.

    Args:
        most_bytes: Size of a piece. The table's own object holds the rest, at least the footer.
    """
    size_bytes = path.stat().st_size
    if size_bytes <= most_bytes:
        return None
    with path.open("rb") as file:
        file.seek(-8, 2)
        footer_bytes = int.from_bytes(file.read(4), "little")
    # The file is written again to name its pieces, which may change its size slightly.
    count = (size_bytes - footer_bytes - _SPARE_BYTES - size_bytes // _SPARE_SHARE) // most_bytes
    return Pieces(uuid4().hex, count, most_bytes) if count > 0 else None


def pieces_of(source: bytes | memoryview | Path) -> Pieces | None:
    """Returns the pieces that the footer of a Parquet file names.

    Args:
        source: The file, or bytes with at least its footer.

    Returns:
        The pieces; None if it names none, or is not a Parquet file (which readers of the table report).
    """
    import pyarrow as pa  # noqa: PLC0415 - loads slowly; a detection run and the code location do not need it
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    try:
        file = source if isinstance(source, Path) else pa.BufferReader(source)
        said = (pq.read_metadata(file).metadata or {}).get(PIECES_KEY.encode())
    except (pa.ArrowException, OSError):
        return None
    return Pieces(**json.loads(said)) if said else None


def put_pieces(store: ObjectStore, key: str, data: memoryview, pieces: Pieces) -> None:
    """Stores the pieces of a table.

    Args:
        key: The table's own key.
        data: The whole table.
        pieces: The pieces that its footer names.

    Raises:
        TransientError: The store does not answer.
    """
    for number in range(pieces.count):
        begin = number * pieces.size_bytes
        store.put(piece_key(key, pieces.id, number), data[begin : begin + pieces.size_bytes])
        reach("table piece put", f"{key} {number}")


def remove_pieces(store: ObjectStore, key: str, unused: Pieces | None) -> None:
    """Removes pieces that no longer belong to a version, and old pieces of killed builds.

    If the store does not answer or forbids it, the pieces only take space, and the next build tries again.

    Args:
        key: The table's own key; this or another build has just stored it.
        unused: Pieces of the version that was replaced, or of the build that lost.
    """
    try:
        found = list(store.list_objects(piece_prefix(key)))
        current = pieces_of(fetch_tail(store, key, _TAIL_BYTES).data) if found else None
        for info in found:
            build = info.key.split("/")[-2]
            is_old = max(each.last_modified for each in found) - info.last_modified > ABANDONED
            if build != (current.id if current else "") and (is_old or (unused and build == unused.id)):
                store.delete(info.key)
    except ImgpipelineError:
        return


def fetch_table(store: ObjectStore, key: str, path: Path) -> str:
    """Fetches a stored table and its pieces into a local file.

    Args:
        key: The table's own key.
        path: Where to write it.

    Returns:
        The version (e-tag) that was read.

    Raises:
        ObjectMissingError: There is no such table.
        PermanentError: A piece is missing or has the wrong size.
        TransientError: The store does not answer, or the table was replaced eight times while it was read.
    """
    for _ in range(_ATTEMPTS):
        e_tag = fetch_to_file(store, key, path)
        pieces = pieces_of(path)
        if pieces is None or _put_in_front(store, key, path, pieces):
            return e_tag
        _check_replaced(store, key, e_tag)
    raise TransientError(f"{key} was replaced {_ATTEMPTS} times while it was read.", next_step="run the command again")


def _put_in_front(store: ObjectStore, key: str, path: Path, pieces: Pieces) -> bool:
    """Puts the pieces in front of a file that holds the end of a table; False if a piece is gone."""
    whole, piece = path.with_name(f"{path.name}.whole"), path.with_name(f"{path.name}.piece")
    try:
        with whole.open("wb") as file:
            for name in _keys(key, pieces):
                fetch_to_file(store, name, piece)
                _append(file, piece, pieces.size_bytes, name)
            _append(file, path, path.stat().st_size, key)
    except ObjectMissingError:
        return False
    else:
        whole.replace(path)
        return True
    finally:
        whole.unlink(missing_ok=True)
        piece.unlink(missing_ok=True)


def _append(file: BinaryIO, source: Path, size_bytes: int, name: str) -> None:
    if source.stat().st_size != size_bytes:
        raise PermanentError(
            f"{name} has {source.stat().st_size} bytes instead of {size_bytes}.",
            next_step="move the table that it belongs to aside; it is then built again",
        )
    with source.open("rb") as begin:
        shutil.copyfileobj(begin, file)


def _keys(key: str, pieces: Pieces) -> list[str]:
    return [piece_key(key, pieces.id, number) for number in range(pieces.count)]


def _check_replaced(store: ObjectStore, key: str, e_tag: str) -> None:
    """Raises PermanentError if a piece is missing although its table was not replaced."""
    found = store.head(key)
    if found is not None and found.e_tag == e_tag:
        raise PermanentError(
            f"{key} names pieces below {piece_prefix(key)}, and one of them is missing.",
            next_step=f"move {key} aside; it is then built again",
        )
