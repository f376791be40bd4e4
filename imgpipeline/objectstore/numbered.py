"""Appends JSON objects to numbered logs in the store, without gaps or duplicate numbers and without locks.

A writer creates an object only under the number after the last one that it has read, and only if that key is free. Of
several writers one wins; the others try the next number.
"""

import json
from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from imgpipeline.contracts.keys import numbered_key, parse_number
from imgpipeline.errors import PermanentError
from imgpipeline.objectstore.client import ObjectStore

_Entry = TypeVar("_Entry")


def read_object(store: ObjectStore, key: str) -> dict[str, Any]:
    """Returns the JSON object under a key.

    Raises:
        ObjectMissingError: There is no object.
        PermanentError: The content is not a JSON object.
        TransientError: The store does not answer.
    """
    try:
        found = json.loads(store.get(key))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PermanentError(
            f"{store.url}/{key} is damaged; expected a JSON object.", next_step="restore it from a backup of the store"
        )
    return found


def read_typed(store: ObjectStore, key: str, kind: TypeAdapter[_Entry], *, expected: str) -> _Entry:
    """Returns the entry under a key; `expected` names its kind if it is damaged. Errors as of `read_object`."""
    try:
        return kind.validate_python(read_object(store, key))
    except ValidationError:
        raise PermanentError(
            f"{store.url}/{key} is damaged; expected {expected}.", next_step="restore it from a backup of the store"
        ) from None


def create_object(store: ObjectStore, key: str, content: Mapping[str, Any]) -> bool:
    """Writes a JSON object unless another writer was first; results and errors as of `ObjectStore.create_or_own`."""
    return store.create_or_own(key, json.dumps(content, ensure_ascii=False, sort_keys=True).encode())


def append_entry(store: ObjectStore, prefix: str, content: Mapping[str, Any]) -> int:
    """Appends an entry below a prefix, with a random id as its `writer`, and returns its number.

    Raises:
        TransientError: The store does not answer.
    """
    content = {**content, "writer": uuid4().hex}
    number = max(list_numbers(store, prefix), default=0) + 1
    while not create_object(store, numbered_key(prefix, number), content):
        number += 1
    return number


def read_entries(store: ObjectStore, prefix: str) -> list[dict[str, Any]]:
    """Returns the entries below a prefix, in the order of their numbers.

    Raises:
        PermanentError: An entry is damaged.
        TransientError: The store does not answer.
    """
    return [read_object(store, numbered_key(prefix, number)) for number in list_numbers(store, prefix)]


def list_numbers(store: ObjectStore, prefix: str, *, after: int = 0) -> list[int]:
    """Returns the numbers of the entries after a number, sorted. The listing of a folder may miss a new entry."""
    listed = store.list_objects(prefix, after=numbered_key(prefix, after) if after else None)
    found = (parse_number(info.key) for info in listed)
    return sorted(number for number in found if number is not None and number > after)
