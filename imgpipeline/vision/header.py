"""Reads the headers of JPEG, PNG, WebP, GIF, BMP and TIFF files before anything is decoded.

Memory and time are constant, whatever the header claims, so an image that would fill the memory is refused before it is
decoded. `decode` checks whether the claim is true.

Sources: ITU-T T.81, PNG 1.2, RFC 9649 (WebP), GIF89a, BITMAPINFOHEADER, TIFF 6.0.
"""

import struct
from dataclasses import dataclass

from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.vision.jpeg import walk_jpeg
from imgpipeline.vision.png import read_png_header
from imgpipeline.vision.tiff import HEIGHT_TAG, ORIENTATION_TAG, WIDTH_TAG, read_first_directory, read_orientation

_MOST_WEBP_CHUNKS = 100_000
"""More than any animation has; walking through millions of them would take seconds."""
_STARTS = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "gif": (b"GIF87a", b"GIF89a"),
    "bmp": (b"BM",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
}
"""The first bytes of a file of each format; WebP is a RIFF file."""


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


def _read_jpeg(data: bytes) -> tuple[int, int, int]:
    structure = walk_jpeg(data, header_only=True)
    return structure.width, structure.height, structure.orientation


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


def _webp_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks: list[tuple[bytes, bytes]] = []
    at = 12
    while at + 8 <= len(data):
        if len(chunks) == _MOST_WEBP_CHUNKS:
            raise _failed(f"The WebP has more than {_MOST_WEBP_CHUNKS} chunks.")
        kind, size_bytes = struct.unpack_from("<4sI", data, at)
        keep = size_bytes if kind == b"EXIF" else min(size_bytes, 32)
        chunks.append((kind, data[at + 8 : at + 8 + keep]))
        at += 8 + size_bytes + (size_bytes & 1)
    return chunks


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
    tags = read_first_directory(data)
    if WIDTH_TAG not in tags or HEIGHT_TAG not in tags:
        raise _failed("The TIFF's first directory has no picture size; the file is truncated or damaged.")
    orientation = tags.get(ORIENTATION_TAG, 1)
    return tags[WIDTH_TAG], tags[HEIGHT_TAG], orientation if 1 <= orientation <= 8 else 1


_READERS = {
    "jpeg": _read_jpeg,
    "png": read_png_header,
    "webp": _read_webp,
    "gif": _read_gif,
    "bmp": _read_bmp,
    "tiff": _read_tiff,
}


def _failed(message: str) -> BadInputError:
    return BadInputError(DeadLetterCode.DECODE_FAILED, message)
