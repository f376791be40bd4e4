"""Reads the size and orientation from the first directory (IFD) of a TIFF file, before anything is decoded.

EXIF has the same format inside JPEG, PNG and WebP. Reads stay within the given bytes. Damaged input raises no error:
unreadable tags are missing.

Source: TIFF 6.0 specification, section 2; BigTIFF design (libtiff).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

WIDTH_TAG: Final = 256
HEIGHT_TAG: Final = 257
ORIENTATION_TAG: Final = 274

_BYTE_ORDERS: Final = {b"II": "<", b"MM": ">"}
_SCALARS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_ENTRIES: Final = 4096


def read_first_directory(data: bytes) -> dict[int, int]:
    """Returns the integer tags (BYTE, SHORT, LONG, LONG8) of the first directory; empty if `data` is not a TIFF.

    Args:
        data: A TIFF file, or the TIFF structure of an EXIF block.
    """
    tags: dict[int, int] = {}
    for entry in _entries(data):
        tags.setdefault(entry.tag, entry.value)
    return tags


def read_orientation(data: bytes) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 (upright) if it is missing or invalid.

    Args:
        data: A TIFF structure (an EXIF block without its `Exif` prefix).
    """
    orientation = read_first_directory(data).get(ORIENTATION_TAG, 1)
    return orientation if 1 <= orientation <= 8 else 1


def without_orientation(data: bytes) -> bytes:
    """Returns a TIFF file with every orientation in its first directory set to 1; `data` itself if nothing changes."""
    wrong = [entry for entry in _entries(data) if entry.tag == ORIENTATION_TAG and entry.value != 1]
    if not wrong:
        return data
    changed = bytearray(data)
    for entry in wrong:
        struct.pack_into(entry.format, changed, entry.value_at, 1)
    return bytes(changed)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One integer tag of a directory."""

    tag: int
    value: int
    value_at: int
    """Offset of the value in the file."""
    format: str
    """Format of the value for `struct`."""


def _entries(data: bytes) -> Iterator[_Entry]:
    order = _BYTE_ORDERS.get(data[:2])
    if order is None:
        return
    try:
        version = struct.unpack_from(order + "H", data, 2)[0]
        if version == 42:
            yield from _read_entries(data, order, struct.unpack_from(order + "I", data, 4)[0], big=False)
        elif version == 43:
            yield from _read_entries(data, order, struct.unpack_from(order + "Q", data, 8)[0], big=True)
    except struct.error:
        return  # truncated: keep the tags before this point


def _read_entries(data: bytes, order: str, start: int, *, big: bool) -> Iterator[_Entry]:
    if start >= len(data):
        return
    count_format, entry_format, inline_at = ("Q", "HHQ", 12) if big else ("H", "HHI", 8)
    entry_size_bytes = 20 if big else 12
    count = struct.unpack_from(order + count_format, data, start)[0]
    first = start + struct.calcsize(order + count_format)
    for index in range(min(count, _MOST_ENTRIES)):
        at = first + index * entry_size_bytes
        tag, kind, values = struct.unpack_from(order + entry_format, data, at)
        scalar = _SCALARS.get(kind)
        if scalar and values == 1:
            value = struct.unpack_from(order + scalar, data, at + inline_at)[0]
            yield _Entry(tag, value, at + inline_at, order + scalar)
