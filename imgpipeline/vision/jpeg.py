"""Walks the markers of a JPEG file and checks that all announced data is present.

It detects truncated files that a decoder would fill with grey, by checking the end marker, the restart markers and the
progressive scans. Entropy-coded data is not decoded, so flipped bits in it are not detected.

Source: ITU-T T.81 (JPEG), annexes B (markers), A.2 (how many blocks a scan has) and G (progressive scans).
"""

import math
import re
import struct
from dataclasses import dataclass, field
from typing import Final

from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.vision.tiff import read_orientation

MOST_SCANS: Final = 200
"""More scans than any encoder writes. Each costs a pass over all coefficients, so a small file could take minutes."""

MOST_MARKERS: Final = 10_000
"""More marker segments than any file has. Walking through millions of them would take seconds."""

_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xCA})
_DATA_END: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_RESTARTS: Final = tuple(bytes((0xFF, code)) for code in range(0xD0, 0xD8))


@dataclass(slots=True)
class JpegStructure:
    """The contents of the markers of a JPEG; filled in while the markers are walked."""

    width: int = 0
    """Pixels; 0 before the frame header."""
    height: int = 0
    """Pixels; 0 before the frame header."""
    orientation: int = 1
    """EXIF orientation, 1 to 8."""
    progressive: bool = False
    """Whether coefficients are spread over several scans, coarse to fine."""
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Horizontal and vertical sampling factors of each component id."""
    restart_interval: int = 0
    """Blocks (MCUs) between restart markers; 0: none."""
    scans: int = 0
    """Scans read so far."""
    open_bits: dict[tuple[int, int], int] = field(default_factory=dict)
    """For each (component id, coefficient) read so far: number of low bits that are still missing (progressive)."""
    last_scan_refines: bool = False
    """Whether the last scan only adds low bits to known coefficients (progressive)."""
    end: int | None = None
    """Offset of the end marker; None if it was not found."""


def walk_jpeg(data: bytes, *, header_only: bool = False) -> JpegStructure:
    """Walks the markers of a JPEG.

    Args:
        data: The file; bytes after its end marker are ignored.
        header_only: Stop at the first scan; then only size and orientation are complete.

    Raises:
        BadInputError: `DECODE_FAILED`: a marker is missing or truncated, or contradicts another.
    """
    structure = JpegStructure()
    at = 2
    for _ in range(MOST_MARKERS):
        marker, at = _next_marker(data, at)
        if marker == 0xD9:
            structure.end = at - 2
            return structure
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        body, at = _segment(data, at, marker)
        _read_segment(structure, marker, body)
        if marker == 0xDA:
            if not structure.sampling:
                raise _broken("a scan comes before the frame header")
            if header_only:
                return structure
            at = _read_scan(structure, body, data, at)
    raise _broken(f"it has more than {MOST_MARKERS} markers")


def check_complete(structure: JpegStructure) -> None:
    """Checks that no announced data is missing, after a complete walk.

    Raises:
        BadInputError: `DECODE_FAILED`, with the missing data.
    """
    if structure.scans == 0:
        raise _broken("it has no picture data")
    if structure.progressive:
        missing = [i for i in structure.sampling if any(structure.open_bits.get((i, k), 1) for k in range(64))]
        if missing:
            raise _broken(f"progressive scans of component {missing[0]} are missing: the file is truncated")


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    found = _MARKER.search(data, at)
    if found is not None:
        return data[found.end() - 1], found.end()
    raise _broken(f"it ends at byte {len(data)} without an end marker: the file is truncated")


def _segment(data: bytes, at: int, marker: int) -> tuple[bytes, int]:
    if at + 2 > len(data):
        raise _broken("it ends inside a marker segment: the file is truncated")
    size_bytes = struct.unpack_from(">H", data, at)[0]
    if size_bytes < 2 or at + size_bytes > len(data):
        raise _broken(f"marker {marker:#04x} announces {size_bytes} bytes, but only {len(data) - at} follow")
    return data[at + 2 : at + size_bytes], at + size_bytes


def _read_segment(structure: JpegStructure, marker: int, body: bytes) -> None:
    try:
        if marker in _FRAME_MARKERS:
            _read_frame_header(structure, marker, body)
        elif marker == 0xDD:
            structure.restart_interval = struct.unpack_from(">H", body)[0]
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            structure.orientation = read_orientation(body[6:])
    except (struct.error, IndexError) as error:
        raise _broken(f"marker {marker:#04x} has only {len(body)} bytes") from error


def _read_frame_header(structure: JpegStructure, marker: int, body: bytes) -> None:
    if structure.sampling:
        raise _broken("it has two frame headers, one is expected")
    structure.height, structure.width = struct.unpack_from(">HH", body, 1)
    structure.progressive = marker in _PROGRESSIVE
    for index in range(body[5]):
        component, factors = body[6 + 3 * index], body[7 + 3 * index]
        structure.sampling[component] = (factors >> 4, factors & 15)
    if not structure.sampling or not all(h and v for h, v in structure.sampling.values()):
        raise _broken("its frame header names no components")


def _read_scan(structure: JpegStructure, header: bytes, data: bytes, at: int) -> int:
    """Records one scan and returns the offset at which its entropy-coded data ends."""
    structure.scans += 1
    if structure.scans > MOST_SCANS:
        raise _broken(f"it has more than {MOST_SCANS} scans")
    count = header[0] if header else 0
    if len(header) < 4 + 2 * count or count == 0:
        raise _broken(f"the header of scan {structure.scans} has only {len(header)} bytes")
    components = [header[1 + 2 * i] for i in range(count)]
    first, last, bits = header[1 + 2 * count], header[2 + 2 * count], header[3 + 2 * count]
    if any(c not in structure.sampling for c in components):
        raise _broken(f"scan {structure.scans} names a component that the frame header does not have")
    structure.last_scan_refines = bits >> 4 > 0
    for component in components:
        structure.open_bits.update({(component, k): bits & 15 for k in range(first, min(last, 63) + 1)})
    found = _DATA_END.search(data, at)
    if found is None:
        raise _broken(f"it ends at byte {len(data)} inside its picture data: the file is truncated")
    _check_restarts(structure, components, data, at, found.start())
    return found.start()


def _check_restarts(structure: JpegStructure, components: list[int], data: bytes, at: int, end: int) -> None:
    if not structure.restart_interval:
        return
    expected = (_blocks(structure, components) - 1) // structure.restart_interval
    actual = sum(data.count(marker, at, end) for marker in _RESTARTS)
    if actual < expected:
        raise _broken(f"scan {structure.scans} has {actual} restart markers, {expected} are expected")


def _blocks(structure: JpegStructure, components: list[int]) -> int:
    """Returns the number of MCUs of a scan (T.81, A.2)."""
    most_h = max(h for h, _ in structure.sampling.values())
    most_v = max(v for _, v in structure.sampling.values())
    if len(components) > 1:
        return math.ceil(structure.width / (8 * most_h)) * math.ceil(structure.height / (8 * most_v))
    h, v = structure.sampling[components[0]]
    columns = math.ceil(math.ceil(structure.width * h / most_h) / 8)
    rows = math.ceil(math.ceil(structure.height * v / most_v) / 8)
    return columns * rows


def _broken(what: str) -> BadInputError:
    return BadInputError(DeadLetterCode.DECODE_FAILED, f"The JPEG is broken: {what}.")
