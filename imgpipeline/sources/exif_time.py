"""Reads from the EXIF block when an image was taken.

Finds the block in JPEG, PNG, WebP and TIFF files and reads `DateTimeOriginal` with its sub-seconds and its offset from
UTC (EXIF 2.32, tags 36867, 37521 and 36881). Returns an aware time or None, whatever the bytes are. `vision.header`
reads the orientation.
"""

import re
import struct
from datetime import UTC, datetime, tzinfo
from typing import Final

from imgpipeline.contracts.timezones import as_utc

_BLOCK: Final = re.compile(rb"(?:Exif\0\0|eXIf|EXIF.{4})(?=II\*\0|MM\0\*)", re.DOTALL)
"""What precedes the TIFF structure: in JPEG (APP1) and some WebP files, in PNG, in other WebP files."""
_MARKS: Final = (b"Exif\0\0", b"eXIf", b"EXIF")
"""How `_BLOCK` begins: finding plain bytes is much faster than the pattern, and most frames of cameras have no EXIF."""
_EXIF_DIRECTORY: Final = 34665
_TAKEN: Final = 36867
_TAKEN_OFFSET: Final = 36881
_TAKEN_SUBSECONDS: Final = 37521
_MOST_ENTRIES: Final = 1000
_LONGEST: Final = 64


def read_taken_time(data: bytes, zone: tzinfo = UTC) -> datetime | None:
    """Reads when a picture was taken.

    Args:
        data: The image file.
        zone: The time zone of a time without an offset (`timezones.as_utc`): EXIF before 2.31 has no offset.

    Returns:
        The time as aware UTC. None if there is none or it is not valid.
    """
    found = _BLOCK.search(data) if any(mark in data for mark in _MARKS) else None
    block = data if data[:4] in (b"II*\0", b"MM\0*") else data[found.end() :] if found else b""
    try:
        return _read_block(block, zone) if block else None
    except (struct.error, ValueError, OverflowError):
        return None


def _read_block(block: bytes, zone: tzinfo) -> datetime | None:
    order = "<" if block[:2] == b"II" else ">"
    first = _read_directory(block, order, struct.unpack_from(order + "I", block, 4)[0])
    inner = first.get(_EXIF_DIRECTORY)
    if not isinstance(inner, int):
        return None
    tags = _read_directory(block, order, inner)
    taken, offset, fraction = (str(tags.get(tag, "")) for tag in (_TAKEN, _TAKEN_OFFSET, _TAKEN_SUBSECONDS))
    has_offset = re.fullmatch(r"[+-]\d\d:\d\d", offset)
    taken_in = datetime.strptime(offset, "%z").tzinfo if has_offset else zone
    time = as_utc(datetime.strptime(taken, "%Y:%m:%d %H:%M:%S"), taken_in or UTC)  # noqa: DTZ007 - as_utc adds the zone
    return time.replace(microsecond=int(fraction[:6].ljust(6, "0"))) if fraction.isdecimal() else time


def _read_directory(block: bytes, order: str, start: int) -> dict[int, int | str]:
    """Returns the LONG and ASCII tags of a directory that this module asks for."""
    (count,) = struct.unpack_from(order + "H", block, start)
    tags: dict[int, int | str] = {}
    for index in range(min(count, _MOST_ENTRIES)):
        at = start + 2 + 12 * index
        tag, kind, size, value = struct.unpack_from(order + "HHII", block, at)
        if kind == 4 and tag == _EXIF_DIRECTORY:
            tags[tag] = value
        elif kind == 2 and tag in (_TAKEN, _TAKEN_OFFSET, _TAKEN_SUBSECONDS):
            begin = at + 8 if size <= 4 else value
            text = block[begin : begin + min(size, _LONGEST)]
            if len(text) == min(size, _LONGEST):  # half a time would be another time
                tags[tag] = text.split(b"\0")[0].decode("ascii", "replace").strip()
    return tags
