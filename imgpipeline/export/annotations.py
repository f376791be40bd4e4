"""What people say about detections: one is wrong, or an object is missing. Used for training; no count reads it.

An annotation is a create-only object, and a second create-only object withdraws it. So no annotation is ever lost, and
both objects name their author.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from imgpipeline.contracts.times import Timestamp, format_time
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

PREFIX = "annotations"
_WITHDRAWN = ".withdrawn"


class Mistake(StrEnum):
    """What a detector did wrong."""

    WRONG = "wrong"
    """It found an object that is not there, or gave it the wrong label."""
    MISSING = "missing"
    """It missed an object."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a person says about one object in one frame."""

    annotation_id: str
    day: date
    frame_id: str
    mistake: Mistake
    label: str
    """Label of the wrong detection, or of the missing object."""
    box: tuple[float, float, float, float] | None
    """x, y, width and height in pixels of the original image; None for a detection without a box."""
    detection_number: int | None
    """Number of the wrong detection within its frame at that time; None for a missing object."""
    note: str
    """Free text; may be empty."""
    by: str
    at: Timestamp
    withdrawn_by: str | None = None
    """Who withdrew it; None if it is valid."""

    def to_json(self) -> dict[str, Any]:
        """Returns the document that is stored and that the API shows."""
        document: dict[str, Any] = _ANNOTATION.dump_python(self, mode="json")
        return document


_ANNOTATION = TypeAdapter(Annotation)


def new_id() -> str:
    """Returns an id for an annotation."""
    return uuid.uuid4().hex


def keep(store: ObjectStore, given: Annotation) -> None:
    """Stores a new annotation.

    Raises:
        TransientError: The store does not answer; the frame's page shows whether the annotation is stored.
    """
    store.create(_key(given.day, given.frame_id, given.annotation_id), json.dumps(given.to_json()).encode())


def withdraw(store: ObjectStore, day: date, frame_id: str, annotation_id: str, *, by: str, at: datetime) -> Annotation:
    """Withdraws an annotation; of several calls, the first one counts.

    Raises:
        ConfigurationError: There is no such annotation.
        TransientError: The store does not answer.
    """
    key = _key(day, frame_id, annotation_id)
    try:
        given = _read(store, key)
    except ObjectMissingError:
        raise ConfigurationError(
            f"The frame has no annotation {annotation_id}.", next_step=f"see /frames/{day}/{frame_id}"
        ) from None
    store.create(key + _WITHDRAWN, json.dumps({"by": by, "at": format_time(at)}).encode())
    return replace(given, withdrawn_by=_withdrawn_by(store, key))


def annotations_of(store: ObjectStore, day: date, frame_id: str | None = None) -> Iterator[Annotation]:
    """Yields the annotations of a day or of one frame, by frame.

    Raises:
        PermanentError: An object is damaged.
        TransientError: The store does not answer.
    """
    prefix = f"{PREFIX}/day={day}" + (f"/{frame_id}" if frame_id else "")
    keys = {info.key for info in store.list_objects(prefix)}
    for key in sorted(key for key in keys if not key.endswith(_WITHDRAWN)):
        given = _read(store, key)
        yield replace(given, withdrawn_by=_withdrawn_by(store, key)) if key + _WITHDRAWN in keys else given


def _key(day: date, frame_id: str, annotation_id: str) -> str:
    return f"{PREFIX}/day={day}/{frame_id}/{annotation_id}.json"


def _read(store: ObjectStore, key: str) -> Annotation:
    try:
        return _ANNOTATION.validate_json(store.get(key))
    except ValidationError:
        raise _damaged(store, key) from None


def _withdrawn_by(store: ObjectStore, key: str) -> str:
    try:
        return str(json.loads(store.get(key + _WITHDRAWN))["by"])
    except (ValueError, TypeError, KeyError):
        raise _damaged(store, key + _WITHDRAWN) from None


def _damaged(store: ObjectStore, key: str) -> PermanentError:
    return PermanentError(
        f"{store.url}/{key} is damaged; expected an annotation.", next_step="delete it, and annotate the frame again"
    )
