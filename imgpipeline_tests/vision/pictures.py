"""Generated pictures and image files."""

import base64
import struct
import zlib

import cv2
import numpy as np

BLUE, RED = (200, 60, 30), (40, 80, 220)

CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAGBAUGBQQGBgUGBwcGCAoQCgoJCQoUDg8MEBcUGBgXFBYWGh0lHxobIxwWFiAsICMmJykq"
    "KRkfLTAtKDAlKCko/8AAFAgAEAAYBEMRAE0RAFkRAEsRAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAgMEBQYHCAkKC//EALUQAAIB"
    "AwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQcicRQygZGhCCNCscEVUtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZH"
    "SElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Slpqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV"
    "1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/aAA4EQwBNAFkASwAAPwD58rySvYK+qa9//ZT/AOZo/wC3X/2tV7Tf+Wn4f1rxT9pH"
    "/mXf+3n/ANpUV7/V2vFaK+AaxK+1aK9//ZT/AOZo/wC3X/2tV7Tf+Wn4f1rxT9pH/mXf+3n/ANpUV7/V2vFaK//Z"
)
"""24x16 pixels in CMYK: the left half blue, the right half red (`two_halves`)."""


def two_halves(width: int = 24, height: int = 16) -> np.ndarray:
    """The left half blue, the right half red."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = BLUE, RED
    return pixels


def detailed_picture(width: int = 301, height: int = 207, seed: int = 1) -> np.ndarray:
    """Structure and noise in every block."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def encode(ending: str, pixels: np.ndarray, *options: int) -> bytes:
    """Encode with OpenCV; `ending` such as `.png`."""
    written, encoded = cv2.imencode(ending, pixels, list(options))
    assert written
    return encoded.tobytes()


def exif_block(orientation: int, order: str = "<") -> bytes:
    """A TIFF structure with nothing but an orientation."""
    magic = b"II" if order == "<" else b"MM"
    entry = struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    return magic + struct.pack(order + "HIH", 42, 8, 1) + entry + struct.pack(order + "I", 0)


def with_orientation(data: bytes, orientation: int, order: str = "<") -> bytes:
    """Put an EXIF orientation into a JPEG, PNG, WebP (made by OpenCV) or TIFF without one."""
    exif = exif_block(orientation, order)
    if data.startswith(b"\xff\xd8"):
        body = b"Exif\0\0" + exif
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    if data.startswith(b"\x89PNG"):
        return data[:33] + png_chunk(b"eXIf", exif) + data[33:]
    size = struct.unpack_from("<I", data, 4)[0]
    width, height = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[1::-1]
    canvas = struct.pack("<I", 8) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extra = b"VP8X" + struct.pack("<I", len(canvas)) + canvas
    tail = b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) & 1)
    return b"RIFF" + struct.pack("<I", size + len(extra) + len(tail)) + b"WEBP" + extra + data[12:] + tail


def raw_tiff(pixels: np.ndarray, orientation: int) -> bytes:
    """An uncompressed RGB TIFF."""
    height, width = pixels.shape[:2]
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 2), (273, 0), (274, orientation), (277, 3),
            (278, height), (279, pixels.size)]  # fmt: skip
    at = 8 + 2 + 12 * len(tags) + 4
    rows = [struct.pack("<HHII", tag, 4, 1, at if tag == 273 else value) for tag, value in tags]
    directory = struct.pack("<H", len(tags)) + b"".join(rows) + b"\0" * 4
    return b"II" + struct.pack("<HI", 42, 8) + directory + pixels[..., ::-1].tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def hollow_png(width: int, height: int) -> bytes:
    """A grey PNG of one colour: tiny as a file, however large it claims to be."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pack = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    data = b"".join([pack.compress(row) for _ in range(height)]) + pack.flush()
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
