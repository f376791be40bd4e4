"""The record of deleted images: one small object per source and day that says how many images were deleted, and when.

Image retention writes it before it deletes the first image, so a reader that misses one can say why.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from imgpipeline.contracts.keys import IMAGES, deleted_images_key
from imgpipeline.contracts.times import format_time, parse_time
from imgpipeline.objectstore.failures import ForbiddenError, ObjectMissingError

if TYPE_CHECKING:
    from imgpipeline.objectstore.client import ObjectStore


@dataclass(frozen=True, slots=True)
class DeletedImages:
    """What was deleted of one source and day."""

    source: str
    """The source, as keys name it."""
    day: date
    """UTC day below which the images were stored."""
    deleted_at: datetime
    """When the last of them was deleted, UTC."""
    images: int
    """How many; up to 1,000 more than were deleted if a run was killed."""
    size_bytes: int
    """Their size."""
    left: int
    """Images that were left because the ledger has no outcome of them."""
    looked_at: datetime
    """When the day was last looked through, UTC."""


def image_place(key: str) -> tuple[str, date] | None:
    """Returns source and day of the key of an image that this project stored; None for any other key."""
    parts = key.split("/")
    if len(parts) < 4 or parts[0] != IMAGES:
        return None
    try:
        return parts[1], date.fromisoformat(parts[2])
    except ValueError:
        return None


def read_deleted(store: "ObjectStore", source: str, day: date) -> DeletedImages | None:
    """Returns what was deleted of a source and day; None if nothing was, or the record cannot be read."""
    try:
        data = json.loads(store.get(deleted_images_key(source, day)))
        return DeletedImages(
            source=source,
            day=day,
            deleted_at=parse_time(data["deleted_at"]),
            images=int(data["images"]),
            size_bytes=int(data["size_bytes"]),
            left=int(data["left"]),
            looked_at=parse_time(data["looked_at"]),
        )
    except (ObjectMissingError, ForbiddenError, ValueError, KeyError, TypeError):
        return None


def write_deleted(store: "ObjectStore", deleted: DeletedImages) -> None:
    """Replaces the record of a source and day."""
    data = {
        "version": 1,
        "source": deleted.source,
        "day": deleted.day.isoformat(),
        "deleted_at": format_time(deleted.deleted_at),
        "images": deleted.images,
        "size_bytes": deleted.size_bytes,
        "left": deleted.left,
        "looked_at": format_time(deleted.looked_at),
    }
    store.put(deleted_images_key(deleted.source, deleted.day), json.dumps(data).encode())


def deleted_of(store: "ObjectStore", keys: Iterable[str]) -> tuple[DeletedImages, ...]:
    """Returns the records of the sources and days of some images, by source and day."""
    places = sorted({place for place in map(image_place, keys) if place})
    found = (read_deleted(store, source, day) for source, day in places)
    return tuple(deleted for deleted in found if deleted and deleted.images)
