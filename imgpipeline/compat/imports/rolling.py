"""The hash by which an import recognizes its earlier rows.

It covers the length and bytes of each row, so that two different sequences of rows never have the same input.
"""

from hashlib import sha256


class RollingHash:
    """SHA-256 of all rows so far."""

    def __init__(self) -> None:
        """Starts before the first row."""
        self._hash = sha256()
        self.rows = 0
        """Rows added."""

    def add(self, raw: bytes) -> None:
        """Adds the next row."""
        self._hash.update(b"%d:" % len(raw))
        self._hash.update(raw)
        self.rows += 1

    def value(self) -> str:
        """Returns the hash of all rows so far, 64 hexadecimal digits."""
        return self._hash.hexdigest()
