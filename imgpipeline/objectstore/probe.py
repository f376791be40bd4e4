"""Checks before the first segment that a store answers, and that create-only writes let exactly one writer win.

It writes one small object below `probes/`, and deletes it if its rights allow that.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from imgpipeline.errors import ConfigurationError
from imgpipeline.objectstore.client import ObjectStore
from imgpipeline.objectstore.failures import ForbiddenError, ObjectMissingError

_CONTENDERS = 8


def check_store(store: ObjectStore) -> None:
    """Checks that a store can carry a ledger.

    Args:
        store: The opened store.

    Raises:
        ConfigurationError: The bucket does not exist, the key id is unknown, or create-only put does not hold.
        ForbiddenError: The credentials are refused.
        TransientError: The store does not answer.
    """
    # A listing is the one request that tells a missing bucket from a missing object.
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
        # Rights without deletion are enough for a ledger; the small object then stays.
        with contextlib.suppress(ForbiddenError):
            store.delete(key)
    # A contender whose answer was lost may count itself a loser; two winners, or another's content, may not be.
    if len(won) > 1 or (won and won != [stored]) or stored not in contents:
        raise ConfigurationError(
            f"{store.url} lets {len(won)} of {_CONTENDERS} writers create one object; create-only put must let one.",
            next_step="use a store that honours If-None-Match: * on PUT (AWS S3, MinIO, versitygw, a local folder)",
        )


def _read(store: ObjectStore, key: str) -> bytes | None:
    try:
        return store.get(key)
    except ObjectMissingError:
        return None
