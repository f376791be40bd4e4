"""Adds objects to a numbered list, such that the numbers have neither holes nor duplicates.

A writer creates an object only under the number after the last one that it has read, and only if nothing exists there.
No locks: of several writers one wins, the others read what it wrote and look again.
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
        ObjectMissingError: There is none.
        PermanentError: It is not a JSON object.
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
    """Writes a JSON object if none exists under a key.

    Args:
        store: The object store.
        key: Its key.
        content: Must differ from what any other writer writes, such as by a random `writer`.

    Returns:
        Whether the object is there as given; False if another writer was first.

    Raises:
        TransientError: The store did not answer in time; whether the object is there is unknown.
        PermanentError: What is there is not a JSON object.
    """
    data = json.dumps(content, ensure_ascii=False, sort_keys=True).encode()
    for _ in range(_PUT_ATTEMPTS):
        failure: TransientError | None = None
        try:
            if store.create(key, data):
                return True
        except TransientError as error:
            failure = error
        # Refused, or no answer: the client may have lost against its own first request. Only the object tells.
        try:
            return store.get(key) == data
        except ObjectMissingError:
            if failure is not None:
                raise failure from None
    raise TransientError(f"{key} could not be written: the store says that it exists, and has no such object.")


def read_entries(store: ObjectStore, prefix: str) -> list[dict[str, Any]]:
    """Returns the entries below a prefix, in the order of their numbers.

    Raises:
        PermanentError: One is damaged.
        TransientError: The store does not answer.
    """
    return [read_object(store, entry_key(prefix, number)) for number in _numbers(store, prefix)]


def append_entry(store: ObjectStore, prefix: str, content: Mapping[str, Any]) -> None:
    """Adds an entry below a prefix, with the random name of its `writer`; earlier entries stay.

    Raises:
        PermanentError: An entry is damaged.
        TransientError: The store does not answer.
    """
    number = max(_numbers(store, prefix), default=0) + 1
    while not create_object(store, entry_key(prefix, number), {**content, "writer": uuid4().hex}):
        number += 1


def _numbers(store: ObjectStore, prefix: str) -> list[int]:
    found = (parse_entry(info.key) for info in store.list_objects(prefix))
    return sorted(number for number in found if number is not None)
