"""Checks the chunks of a PNG file before a decoder trusts their lengths.

OpenCV allocates any length that a chunk claims, up to 2 GB for a file of 100 bytes. So only files whose chunks are
complete, undamaged and in order pass.

Source: PNG 1.2, sections 3 and 5; the APNG extension for frames (`fcTL`).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from imgpipeline.errors import BadInputError, DeadLetterCode
from imgpipeline.vision.tiff import read_orientation

_SIGNATURE_SIZE_BYTES = 8
_FRAME_SIZE_BYTES = 12
MOST_CHUNKS = 100_000
"""More chunks than any encoder writes. Walking through millions of them would take seconds."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One chunk."""

    kind: bytes
    """Its four-letter type."""
    at: int
    """Offset of its content."""
    size_bytes: int
    """Length of its content, as claimed."""


def read_png_header(data: bytes) -> tuple[int, int, int]:
    """Returns width, height and EXIF orientation from a PNG, given the whole file or its start.

    Raises:
        BadInputError: `DECODE_FAILED`: it does not begin with its header chunk.
        struct.error: The header is truncated.
    """
    if data[12:16] != b"IHDR":
        raise _broken("it does not begin with its header chunk IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    for chunk in _chunks(data):
        if chunk.kind == b"eXIf":
            return width, height, read_orientation(data[chunk.at : chunk.at + chunk.size_bytes])
    return width, height, 1


def check_png(data: bytes) -> None:
    """Checks every chunk of a PNG, given the whole file; bytes after its last chunk are ignored.

    Raises:
        BadInputError: `DECODE_FAILED`: a chunk is truncated or damaged, or a frame is larger than the picture.
    """
    width, height = struct.unpack_from(">II", data, 16)
    for chunk in _chunks(data):
        end = chunk.at + chunk.size_bytes
        if end + 4 > len(data):
            announced = (
                f"chunk {chunk.kind!r} announces {chunk.size_bytes} bytes, but only {len(data) - chunk.at} follow"
            )
            raise _broken(f"{announced}: the file is truncated")
        expected = struct.unpack_from(">I", data, end)[0]
        if zlib.crc32(memoryview(data)[chunk.at - 4 : end]) != expected:
            raise _broken(f"chunk {chunk.kind!r} at byte {chunk.at - 8} does not match its checksum")
        if chunk.kind == b"fcTL" and chunk.size_bytes >= _FRAME_SIZE_BYTES:
            _, frame_width, frame_height = struct.unpack_from(">III", data, chunk.at)
            if frame_width > width or frame_height > height:
                raise _broken(f"a frame of {frame_width}x{frame_height} pixels in a picture of {width}x{height}")
        if chunk.kind == b"IEND":
            return
    raise _broken("it ends without its end chunk IEND: the file is truncated")


def _chunks(data: bytes) -> Iterator[_Chunk]:
    at = _SIGNATURE_SIZE_BYTES
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(data):
            return
        size_bytes, kind = struct.unpack_from(">I4s", data, at)
        yield _Chunk(kind, at + 8, size_bytes)
        at += 12 + size_bytes
    raise _broken(f"it has more than {MOST_CHUNKS} chunks")


def _broken(what: str) -> BadInputError:
    return BadInputError(DeadLetterCode.DECODE_FAILED, f"The PNG is broken: {what}.")
