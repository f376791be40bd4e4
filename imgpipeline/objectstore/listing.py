"""Descriptions of stored objects, and listing many of them page by page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import obstore

_PAGE_KEYS = 1000


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object in a listing."""

    key: str
    """Key relative to the store's prefix."""
    size_bytes: int
    """Size of the object."""
    e_tag: str
    """Version of the content, as the store names it."""
    last_modified: datetime
    """When it was written, UTC, by the store's clock."""


def describe(entry: Any) -> ObjectInfo:
    """Returns the client's description of an object as a value of this project."""
    return ObjectInfo(entry["path"], entry["size"], entry["e_tag"] or "", entry["last_modified"])


@dataclass(slots=True)
class Pages:
    """A listing whose next page can be requested again after a failure: it continues after the last key received.

    This needs a store that lists in order, as S3 does.
    """

    prefix: str | None
    """Prefix of the keys, whole path parts; None for all."""
    after: str | None
    """Only greater keys."""
    stream: Iterator[Sequence[Any]] | None = None
    """The current request; None before the first one and after a failure."""

    def fetch_next(self, client: Any) -> Sequence[Any] | None:
        """Returns the next entries; None or nothing at the end."""
        stream, self.stream = self.stream, None
        if stream is None:
            stream = iter(obstore.list(client, self.prefix, offset=self.after, chunk_size=_PAGE_KEYS))
        page = next(stream, None)
        self.stream = stream
        if page:
            self.after = page[-1]["path"]
        return page
