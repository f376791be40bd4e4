"""What a follower of the ledger has made of it, stored with its checkpoint in one compressed object."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import zstandard

from imgpipeline.contracts.keys import follower_key
from imgpipeline.errors import PermanentError
from imgpipeline.ledger.decompression import decompress
from imgpipeline.objectstore import ObjectMissingError, ObjectStore

_State = TypeVar("_State")


@dataclass(slots=True)
class FollowerObject:
    """One stored object, replaced only in the version that was loaded or saved last; for one thread at a time.

    A slower process therefore never overwrites what a faster one has saved. The object is a cache: a missing or damaged
    one is rebuilt from the ledger.
    """

    store: ObjectStore
    """The object store."""
    name: str
    """The follower's name, as in its key."""
    max_bytes: int
    """Larger contents are taken for damage."""
    _e_tag: str | None = None
    _text: bytes = b""
    _put: bytes | None = None
    _is_lost: bool = False

    def load(self, parse: Callable[[bytes], _State]) -> _State | None:
        """Returns what is stored, or None if nothing is or it cannot be read.

        Args:
            parse: Reads the text; may raise ValueError, KeyError, IndexError, TypeError or AttributeError.

        Raises:
            TransientError: The store does not answer.
        """
        try:
            fetched = self.store.fetch(follower_key(self.name))
        except ObjectMissingError:
            return None
        self._e_tag = fetched.e_tag
        try:
            text = decompress(fetched.data, self.max_bytes)
            state = parse(text)
        except (zstandard.ZstdError, ValueError, KeyError, IndexError, TypeError, AttributeError):
            return None
        self._text = text
        return state

    def save(self, text: bytes) -> bool:
        """Stores a text; returns False if another process has saved meanwhile, or this account may not write.

        After False nothing more is saved: the next call catches up.

        Raises:
            TransientError: The store does not answer.
        """
        if text == self._text:
            return True
        try:
            self._is_lost = self._is_lost or not self._replace(zstandard.compress(text))
        except PermanentError:
            self._is_lost = True
        if not self._is_lost:
            self._text = text
        return not self._is_lost

    def _replace(self, data: bytes) -> bool:
        key = follower_key(self.name)
        if self._put is not None:  # the version of what this process has put is known by its content only
            fetched = self.store.fetch(key)
            if fetched.data != self._put:
                return False
            self._e_tag = fetched.e_tag
        if not self.store.replace(key, data, self._e_tag):
            return False
        self._put = data
        return True
