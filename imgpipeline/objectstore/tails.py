"""Reading the end of an object: where Parquet keeps what it says of itself.

Owns one ranged request. It promises that the bytes and the version belong together.
"""

from dataclasses import dataclass

import obstore

from imgpipeline.objectstore.client import ObjectStore


@dataclass(frozen=True, slots=True)
class Tail:
    """The last bytes of one object with the version they were read in."""

    data: bytes
    """The last bytes; the whole object where it is shorter than was asked for."""
    e_tag: str
    """Version of the content, as the store names it."""
    size_bytes: int
    """Size of the whole object."""


def fetch_tail(store: ObjectStore, key: str, size_bytes: int) -> Tail:
    """Returns the end of an object, in one request.

    Args:
        store: The object store.
        key: The object's key.
        size_bytes: How much of its end.

    Raises:
        ObjectMissingError: There is none.
    """

    def fetch() -> Tail:
        result = obstore.get(store._store, key, options={"range": {"suffix": size_bytes}})
        return Tail(bytes(result.bytes()), result.meta["e_tag"] or "", result.meta["size"])

    return store._call("read", key, fetch)  # the store's own retries and errors, in its own package
