"""Parts: the results of some frames of a day, stored until the whole day is done.

The key of a part derives from the recipe and its frames, and it is created only if it does not exist. Any process that
works on the same frames with the same model makes the same part, so parts are never duplicated, and existing ones are
reused. A note records that a process started a part; it is only a hint that spreads the work. Parts and notes are
stored under their redetection and removed once it is complete.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imgpipeline.contracts.keys import begun_note_key, redetection_part_key, redetection_parts_prefix
from imgpipeline.errors import PermanentError
from imgpipeline.faultpoints import reach
from imgpipeline.lake.storage.engine import disk_errors
from imgpipeline.objectstore import ObjectMissingError, ObjectStore
from imgpipeline.redetect.frames import FrameResult, FrameToProcess

_BOX = pa.struct(
    [
        ("label", pa.string()),
        ("class_id", pa.int32()),
        ("confidence", pa.float64()),
        *((name, pa.float64()) for name in ("x", "y", "width", "height")),
    ]
)
_SCHEMA = pa.schema(
    [
        ("frame_id", pa.string()),
        ("source_image_path", pa.string()),
        ("outcome", pa.string()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("detections", pa.list_(_BOX)),
    ],
)


def part_key(model: str, day: date, recipe: str, frames: Sequence[FrameToProcess]) -> str:
    """Returns the key of the part with these frames."""
    digest = sha256()
    for frame in frames:
        for text in (frame.frame_id, frame.path, str(frame.size_bytes), frame.status):
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return redetection_part_key(model, day, recipe, digest.hexdigest()[:32])


def encode_part(seen: Sequence[FrameResult]) -> bytes:
    """Returns results as a Parquet file; numbers are rounded as in the documents of the ledger."""
    rows = [
        {
            "frame_id": each.frame.frame_id,
            "source_image_path": each.frame.path,
            "outcome": each.outcome.value,
            "code": each.code,
            "message": each.message,
            "detections": [_box(found.to_json()) for found in each.detections],
        }
        for each in seen
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _box(found: dict[str, object]) -> dict[str, object]:
    box = found.pop("box")
    return found | dict(zip(("x", "y", "width", "height"), box, strict=True))  # type: ignore[call-overload]  # a list


def put_part(store: ObjectStore, key: str, data: bytes, folder: Path) -> Path:
    """Stores a part, writes it to the local folder from which parts are joined, and returns its local path.

    If the part already exists in the store, it was made from the same frames and has the same content.
    """
    reach("redetection part", key)
    store.create(key, data)
    reach("redetection part done", key)
    path = local_path(folder, key)
    with disk_errors(folder):
        path.write_bytes(data)
    return path


def begin_part(store: ObjectStore, key: str, worker: str) -> bool:
    """Records that a process starts a part; returns False if another one, which may have died, already did."""
    return store.create(begun_note_key(key), worker.encode())


def list_parts(store: ObjectStore, model: str, day: date, recipe: str) -> list[str]:
    """Returns the keys of a redetection's parts with this recipe, sorted."""
    prefix = redetection_parts_prefix(model, day)
    keys = (info.key for info in store.list_objects(prefix))
    return sorted(key for key in keys if key.startswith(f"{prefix}/{recipe}-") and key.endswith(".parquet"))


def remove_parts(store: ObjectStore, model: str, day: date) -> None:
    """Removes all parts and notes of a complete redetection, whatever their recipe."""
    for info in list(store.list_objects(redetection_parts_prefix(model, day))):
        store.delete(info.key)


def fetch_parts(store: ObjectStore, keys: Sequence[str], folder: Path) -> Iterator[Path]:
    """Yields the local file of each part, fetched if necessary; parts that were removed meanwhile are skipped.

    Raises:
        PermanentError: An object is not a part, or the local disk is full.
    """
    for key in keys:
        path = local_path(folder, key)
        if not path.exists():
            try:
                data = store.get(key)
            except ObjectMissingError:
                continue
            _check(data, key)
            with disk_errors(folder):
                path.write_bytes(data)
        yield path


def local_path(folder: Path, key: str) -> Path:
    """Returns the local path of a part."""
    return folder / f"part-{key.rpartition('/')[2]}"


def _check(data: bytes, key: str) -> None:
    try:
        schema = pq.read_schema(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise _no_part(key, str(error)) from None
    if schema.names != _SCHEMA.names:
        raise _no_part(key, f"its columns are {', '.join(schema.names)}")


def _no_part(key: str, why: str) -> PermanentError:
    return PermanentError(
        f"{key} is not a part of a redetection: {why}.",
        next_step="remove that object; its frames are then processed again",
    )
