"""The hash by which an import knows its earlier rows.

Owns what is hashed: each row's length and bytes, in order, so that no two sequences of rows flow into each other.
"""

from hashlib import sha256


class RollingHash:
    """SHA-256 over all rows up to one."""

    def __init__(self) -> None:
        """Begins before the first row."""
        self._hash = sha256()
        self.rows = 0
        """Rows that were added."""

    def add(self, raw: bytes) -> None:
        """Adds the next row."""
        self._hash.update(b"%d:" % len(raw))
        self._hash.update(raw)
        self.rows += 1

    def value(self) -> str:
        """Returns the hash of all rows so far, 64 hexadecimal digits."""
        return self._hash.hexdigest()
