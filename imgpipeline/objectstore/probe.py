"""Checks that a store answers, and that of several create-only writes exactly one succeeds.

Writes one small object below `probes/` and deletes it if permitted.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore.client import ObjectStore
from imgpipeline.objectstore.failures import ForbiddenError, ObjectMissingError

_CONTENDERS = 8


def check_store(store: ObjectStore) -> None:
    """Checks that a store can hold a ledger.

    Args:
        store: The opened store.

    Raises:
        ConfigurationError: The bucket does not exist, the key id is unknown, or create-only puts do not work.
        ForbiddenError: The credentials are refused.
        TransientError: The store does not answer.
    """
    # Only a listing distinguishes a missing bucket from a missing object.
    next(iter(store.list_objects("metadata")), None)
    key = f"probes/create-only-{uuid4().hex}"
    contents = [f"contender {i}".encode() for i in range(_CONTENDERS)]
    try:
        with ThreadPoolExecutor(_CONTENDERS) as pool:
            won = [
                content
                for content, ok in zip(contents, pool.map(lambda c: store.create(key, c), contents), strict=True)
                if ok
            ]
        stored = _read(store, key)
    finally:
        # A ledger needs no permission to delete; without it, the small object stays.
        with contextlib.suppress(ForbiddenError):
            store.delete(key)
    # A lost answer may leave no winner, but there must not be two winners, or the content of a loser.
    if len(won) > 1 or (won and won != [stored]) or stored not in contents:
        raise ConfigurationError(
            f"{store.url} let {len(won)} of {_CONTENDERS} writers create the same object; exactly one must succeed.",
            next_step="use a store that honours If-None-Match: * on PUT (AWS S3, MinIO, versitygw, a local folder)",
        )


def _read(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectMissingError:
        return None
