"""Appends JSON objects to numbered lists in the store, without gaps or duplicate numbers and without locks.

A writer creates an object only under the number after the last one that it has read, and only if that key is free. Of
several writers one wins; the others read its object and try again.
"""

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from imgpipeline.contracts.keys import entry_key, parse_entry
from imgpipeline.errors import PermanentError, TransientError
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_PUT_ATTEMPTS = 4


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


def create_object(store: ObjectStore, key: str, content: Mapping[str, Any]) -> bool:
    """Writes a JSON object unless the key exists.

    The content must differ from that of any other writer, such as by a random `writer`.

    Raises:
        TransientError: The store did not answer in time; it may or may not have stored the object.
    """
    data = json.dumps(content, ensure_ascii=False, sort_keys=True).encode()
    for _ in range(_PUT_ATTEMPTS):
        failure: TransientError | None = None
        try:
            if store.create(key, data):
                return True
        except TransientError as error:
            failure = error
        # Refused or no answer: the client may have lost the race to its own first request. Compare the stored object.
        try:
            return store.get(key) == data
        except ObjectMissingError:
            if failure is not None:
                raise failure from None
    raise TransientError(f"{key} could not be written: the store reports that it exists, but has no such object.")


def read_entries(store: ObjectStore, prefix: str) -> list[dict[str, Any]]:
    """Returns the entries below a prefix, in the order of their numbers.

    Raises:
        PermanentError: An entry is damaged.
        TransientError: The store does not answer.
    """
    return [read_object(store, entry_key(prefix, number)) for number in _numbers(store, prefix)]


def append_entry(store: ObjectStore, prefix: str, content: Mapping[str, Any]) -> None:
    """Appends an entry below a prefix, with a random id as its `writer`.

    Raises:
        TransientError: The store does not answer.
    """
    number = max(_numbers(store, prefix), default=0) + 1
    while not create_object(store, entry_key(prefix, number), {**content, "writer": uuid4().hex}):
        number += 1


def _numbers(store: ObjectStore, prefix: str) -> list[int]:
    found = (parse_entry(info.key) for info in store.list_objects(prefix))
    return sorted(number for number in found if number is not None)
