"""Messages from the process that reads a camera to its parent: a JSON header and bytes, through a pipe.

Imports little, because every camera's process loads it.
"""

import json
import os
import select
import struct
from collections.abc import Iterator
from time import monotonic
from typing import Any

_LENGTHS = struct.Struct(">II")
_CHUNK = 256 * 1024
Message = tuple[dict[str, Any], bytes]
"""Header and payload."""


def write_message(descriptor: int, header: dict[str, Any], payload: bytes = b"") -> None:
    """Writes one message, and waits while the pipe is full.

    Raises:
        OSError: The other end of the pipe is closed.
    """
    encoded = json.dumps(header).encode()
    rest = memoryview(_LENGTHS.pack(len(encoded), len(payload)) + encoded + payload)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class MessageReader:
    """Reads messages from a pipe with a limit for each wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._buffer = bytearray()
        self.ended = False
        """Whether the other side has closed the pipe."""

    def read(self, limit_s: float) -> Iterator[Message]:
        """Yields the messages that are there, or that come within `limit_s`; none if none came or the pipe ended."""
        deadline = monotonic() + limit_s
        while not self.ended:
            found = self._take()
            if found:
                yield from found
                return
            left_s = deadline - monotonic()
            if left_s < 0 or not self._poll.poll(left_s * 1000):
                return
            data = os.read(self._descriptor, _CHUNK)
            self.ended = not data
            self._buffer += data

    def _take(self) -> list[Message]:
        found, at = [], 0
        while len(self._buffer) - at >= _LENGTHS.size:
            header_bytes, payload_bytes = _LENGTHS.unpack_from(self._buffer, at)
            middle = at + _LENGTHS.size + header_bytes
            if len(self._buffer) < middle + payload_bytes:
                break
            header = json.loads(bytes(self._buffer[at + _LENGTHS.size : middle]))
            found.append((header, bytes(self._buffer[middle : middle + payload_bytes])))
            at = middle + payload_bytes
        del self._buffer[:at]
        return found
