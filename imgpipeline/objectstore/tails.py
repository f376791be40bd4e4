"""Reading a part of an object in one request: its end, where Parquet and bundles describe themselves, or a range."""

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


def fetch_range(store: ObjectStore, key: str, first: int, behind: int) -> bytes:
    """Returns the bytes `[first, behind)` of an object, in one request.

    Args:
        store: The object store.
        key: The object's key.
        first: Position of the first byte.
        behind: Position behind the last byte, at most the object's size.

    Raises:
        ObjectMissingError: There is none.
    """

    def fetch() -> bytes:
        return bytes(obstore.get_range(store._store, key, start=first, end=behind))

    return store._call("read", key, fetch)  # the store's own retries and errors, in its own package
