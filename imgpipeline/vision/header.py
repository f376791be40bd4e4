"""Reads the headers of JPEG, PNG, WebP, GIF, BMP and TIFF files, and checks that JPEGs and PNGs are complete.

Nothing is decoded. Memory and time are constant for headers, whatever they claim, so an image that would fill the
memory is refused before it is decoded; `decode` checks whether the claim is true. Decoders fill the missing data of a
truncated JPEG with grey, so its end marker, restart markers and progressive scans are checked. OpenCV allocates any
length that a PNG chunk claims, up to 2 GB for a file of 100 bytes, so all chunks have to be complete and undamaged.

Sources: ITU-T T.81 (JPEG), annexes B (markers), A.2 (how many blocks a scan has) and G (progressive scans); PNG 1.2,
sections 3 and 5, and APNG; RFC 9649 (WebP); GIF89a; BITMAPINFOHEADER; TIFF 6.0, section 2, which is also the format of
EXIF; BigTIFF design (libtiff).
"""

import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from imgpipeline.errors import BadInputError, DeadLetterCode

MOST_SCANS: Final = 200
"""More scans than any encoder of JPEGs writes. Each costs a pass over all coefficients, so a small file could take
minutes."""
_MOST_MARKERS: Final = 10_000
"""More marker segments than any JPEG has, as the limits below: walking through millions of parts takes seconds."""
_MOST_CHUNKS: Final = 100_000
_MOST_TIFF_ENTRIES: Final = 4096

_STARTS: Final = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "gif": (b"GIF87a", b"GIF89a"),
    "bmp": (b"BM",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
"""The first bytes of a file of each format; WebP is a RIFF file."""
_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xCA})
_DATA_END: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_MARKER: Final = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_RESTARTS: Final = tuple(bytes((0xFF, code)) for code in range(0xD0, 0xD8))
_WIDTH_TAG: Final = 256
_HEIGHT_TAG: Final = 257
_ORIENTATION_TAG: Final = 274
_SCALARS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""BYTE, SHORT, LONG and LONG8 of TIFF."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The claims of an image file's header."""

    format: str
    """One of jpeg, png, webp, gif, bmp, tiff."""
    width: int
    """Pixels as stored, before the orientation is applied; > 0."""
    height: int
    """Pixels as stored, before the orientation is applied; > 0."""
    orientation: int
    """EXIF orientation, 1 (upright) to 8."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height in pixels after the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(data: bytes) -> ImageHeader:
    """Reads the header of an image file, given the whole file or enough of its start.

    Raises:
        BadInputError: `DECODE_FAILED`: the bytes are not in a known image format, or the header is truncated.
    """
    name = image_format(data)
    if name is None:
        begin = data[:8].hex(" ")
        raise _failed(f"Not an image of a known format (JPEG, PNG, WebP, GIF, BMP, TIFF): it begins with {begin}.")
    try:
        width, height, orientation = _READERS[name](data)
    except (struct.error, IndexError) as error:
        raise _failed(f"The {name.upper()} header is truncated: the file has only {len(data)} bytes.") from error
    if width <= 0 or height <= 0:
        raise _failed(f"The {name.upper()} header claims {width}x{height} pixels; both must be above 0.")
    return ImageHeader(name, width, height, orientation)


def image_format(data: bytes) -> str | None:
    """Returns the format of an image file (as in `ImageHeader.format`) by its first 12 bytes; None if it is unknown."""
    if data[:4] == b"RIFF":
        return "webp" if data[8:12] == b"WEBP" else None
    return next((name for name, starts in _STARTS.items() if data.startswith(starts)), None)


def check_complete(data: bytes, name: str) -> "JpegStructure | None":
    """Checks that no announced data of a JPEG or PNG is missing; other formats are not checked.

    Args:
        data: The whole file.
        name: Its format, as in `ImageHeader.format`.

    Returns:
        The markers of a JPEG.

    Raises:
        BadInputError: `DECODE_FAILED`, with the missing data.
    """
    if name == "png":
        _check_png(data)
    return _check_jpeg(data) if name == "jpeg" else None


@dataclass(slots=True)
class JpegStructure:
    """The contents of the markers of a JPEG; filled in while the markers are walked. The size is 0 before them."""

    width: int = 0
    height: int = 0
    orientation: int = 1
    progressive: bool = False
    """Whether coefficients are spread over several scans, coarse to fine."""
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Horizontal and vertical sampling factors of each component id."""
    restart_interval: int = 0
    """Blocks (MCUs) between restart markers; 0: none."""
    scans: int = 0
    open_bits: dict[tuple[int, int], int] = field(default_factory=dict)
    """For each (component id, coefficient) read so far: number of low bits that are still missing (progressive)."""
    last_scan_refines: bool = False
    """Whether the last scan only adds low bits to known coefficients (progressive)."""
    end: int | None = None
    """Offset of the end marker; None if it was not found."""


def _walk_jpeg(data: bytes, *, header_only: bool = False) -> JpegStructure:
    """Walks the markers up to the end marker; or up to the first scan, where size and orientation are complete."""
    structure = JpegStructure()
    at = 2
    for _ in range(_MOST_MARKERS):
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
    raise _broken(f"it has more than {_MOST_MARKERS} markers")


def _check_jpeg(data: bytes) -> JpegStructure:
    structure = _walk_jpeg(data)
    if structure.scans == 0:
        raise _broken("it has no picture data")
    if structure.progressive:
        missing = [i for i in structure.sampling if any(structure.open_bits.get((i, k), 1) for k in range(64))]
        if missing:
            raise _broken(f"progressive scans of component {missing[0]} are missing: the file is truncated")
    return structure


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


def _read_jpeg(data: bytes) -> tuple[int, int, int]:
    structure = _walk_jpeg(data, header_only=True)
    return structure.width, structure.height, structure.orientation


def _read_png(data: bytes) -> tuple[int, int, int]:
    if data[12:16] != b"IHDR":
        raise _broken("it does not begin with its header chunk IHDR", "PNG")
    width, height = struct.unpack_from(">II", data, 16)
    for kind, at, size_bytes in _png_chunks(data):
        if kind == b"eXIf":
            return width, height, read_orientation(data[at : at + size_bytes])
    return width, height, 1


def _check_png(data: bytes) -> None:
    """Checks every chunk up to the last one; bytes after it are ignored."""
    width, height = struct.unpack_from(">II", data, 16)
    for kind, at, size_bytes in _png_chunks(data):
        end = at + size_bytes
        if end + 4 > len(data):
            announced = f"chunk {kind!r} announces {size_bytes} bytes, but only {len(data) - at} follow"
            raise _broken(f"{announced}: the file is truncated", "PNG")
        if zlib.crc32(memoryview(data)[at - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise _broken(f"chunk {kind!r} at byte {at - 8} does not match its checksum", "PNG")
        if kind == b"fcTL" and size_bytes >= 12:
            frame_width, frame_height = struct.unpack_from(">II", data, at + 4)
            if frame_width > width or frame_height > height:
                what = f"a frame of {frame_width}x{frame_height} pixels in a picture of {width}x{height}"
                raise _broken(what, "PNG")
        if kind == b"IEND":
            return
    raise _broken("it ends without its end chunk IEND: the file is truncated", "PNG")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the type, the offset of the content and the claimed length of each chunk."""
    at = 8
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        size_bytes, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, size_bytes
        at += 12 + size_bytes
    raise _broken(f"it has more than {_MOST_CHUNKS} chunks", "PNG")


def _read_webp(data: bytes) -> tuple[int, int, int]:
    """Returns the larger of canvas and frames, because both are allocated."""
    width = height = 0
    orientation = 1
    for kind, body in _webp_chunks(data):
        if kind == b"EXIF":
            orientation = read_orientation(body.removeprefix(b"Exif\0\0"))
            continue
        size = _webp_size(kind, body)
        width, height = max(width, size[0]), max(height, size[1])
    return width, height, orientation


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the type and the content of each chunk; of large ones without metadata, only the start."""
    at, stop = 12, 8 + int.from_bytes(data[4:8], "little")
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        kind, size_bytes = struct.unpack_from("<4sI", data, at)
        if at < stop and not (kind.isascii() and kind.decode().isprintable()):
            raise _broken(f"byte {at} is not a chunk: the file is damaged", "WebP")
        keep = size_bytes if kind == b"EXIF" else min(size_bytes, 32)
        yield kind, data[at + 8 : at + 8 + keep]
        at += 8 + size_bytes + (size_bytes & 1)
    raise _broken(f"it has more than {_MOST_CHUNKS} chunks", "WebP")


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", body, 1)[0]
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind in (b"VP8X", b"ANMF"):
        at = 4 if kind == b"VP8X" else 6
        fields = body[at : at + 6]
        if len(fields) < 6:
            raise IndexError
        return int.from_bytes(fields[:3], "little") + 1, int.from_bytes(fields[3:], "little") + 1
    return 0, 0


def _read_gif(data: bytes) -> tuple[int, int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height, 1


def _read_bmp(data: bytes) -> tuple[int, int, int]:
    header_size_bytes = struct.unpack_from("<I", data, 14)[0]
    if header_size_bytes == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height), 1


def _read_tiff(data: bytes) -> tuple[int, int, int]:
    tags = _first_directory(data)
    if _WIDTH_TAG not in tags or _HEIGHT_TAG not in tags:
        raise _failed("The TIFF's first directory has no picture size; the file is truncated or damaged.")
    return tags[_WIDTH_TAG], tags[_HEIGHT_TAG], read_orientation(data)


def read_orientation(data: bytes) -> int:
    """Returns the orientation in a TIFF file or EXIF block (without its `Exif` prefix): 1 to 8, or 1 if it is invalid.

    Reads stay within the given bytes.
    """
    orientation = _first_directory(data).get(_ORIENTATION_TAG, 1)
    return orientation if 1 <= orientation <= 8 else 1


def _first_directory(data: bytes) -> dict[int, int]:
    """Returns the integer tags of the first directory (IFD); unreadable ones are missing."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    tags: dict[int, int] = {}
    if order is None:
        return tags
    try:
        version = struct.unpack_from(order + "H", data, 2)[0]
        if version == 42:
            _read_entries(data, order, struct.unpack_from(order + "I", data, 4)[0], ("H", "HHI", 8, 12), tags)
        elif version == 43:
            _read_entries(data, order, struct.unpack_from(order + "Q", data, 8)[0], ("Q", "HHQ", 12, 20), tags)
    except struct.error:
        pass  # truncated: keep the tags before this point
    return tags


def _read_entries(data: bytes, order: str, start: int, layout: tuple[str, str, int, int], tags: dict[int, int]) -> None:
    if start >= len(data):
        return
    count_format, entry_format, inline_at, entry_size_bytes = layout
    count = struct.unpack_from(order + count_format, data, start)[0]
    first = start + struct.calcsize(order + count_format)
    for index in range(min(count, _MOST_TIFF_ENTRIES)):
        at = first + index * entry_size_bytes
        tag, kind, values = struct.unpack_from(order + entry_format, data, at)
        if (scalar := _SCALARS.get(kind)) and values == 1:
            tags.setdefault(tag, struct.unpack_from(order + scalar, data, at + inline_at)[0])


_READERS: Final = {
    "jpeg": _read_jpeg,
    "png": _read_png,
    "webp": _read_webp,
    "gif": _read_gif,
    "bmp": _read_bmp,
    "tiff": _read_tiff,
}


def _broken(what: str, name: str = "JPEG") -> BadInputError:
    return _failed(f"The {name} is broken: {what}.")


def _failed(message: str) -> BadInputError:
    return BadInputError(DeadLetterCode.DECODE_FAILED, message)
