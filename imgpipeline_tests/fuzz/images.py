"""Image files of every kind, whole and damaged, each with what may become of it."""

import random
import struct
from collections.abc import Callable, Iterator
from functools import cache

import cv2
import numpy as np

from imgpipeline_tests.fuzz.cases import FRAME, HostileImage, only
from imgpipeline_tests.vision.pictures import (
    CMYK_JPEG,
    detailed_picture,
    encode,
    exif_block,
    hollow_png,
    png_chunk,
    raw_tiff,
    with_orientation,
)

MOST_PIXELS = 20_000_000
"""The limit that the images are decoded with."""
REFUSED = only("DECODE_FAILED")
DAMAGED = only(FRAME, "DECODE_FAILED", "IMAGE_TOO_LARGE")
"""Where bits were changed at random: a picture may survive that, or claim another size."""

_ENCODINGS: dict[str, tuple[str, tuple[int, ...]]] = {
    "jpeg": (".jpg", ()),
    "progressive jpeg": (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
    "jpeg with restarts": (".jpg", (cv2.IMWRITE_JPEG_RST_INTERVAL, 5)),
    "4:4:4 jpeg": (".jpg", (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)),
    "png": (".png", ()),
    "webp": (".webp", (cv2.IMWRITE_WEBP_QUALITY, 70)),
    "lossless webp": (".webp", (cv2.IMWRITE_WEBP_QUALITY, 101)),
    "gif": (".gif", ()),
    "bmp": (".bmp", ()),
    "tiff": (".tiff", ()),
    "raw tiff": (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 1)),
}
_SIZES = ((1, 1), (7, 5), (16, 16), (33, 70), (160, 120), (301, 207))
_LARGE = ((1281, 721), (1920, 1080))


@cache
def good_files() -> dict[str, bytes]:
    """Returns whole files of every format, depth, channel count and orientation, by name."""
    files = {}
    for name, (ending, options) in _ENCODINGS.items():
        for width, height in (*_SIZES, *(_LARGE if "jpeg" in name else ())):
            files[f"{name} {width}x{height}"] = encode(ending, detailed_picture(width, height), *options)
    picture = detailed_picture(90, 60)
    files |= {f"grey {e}": encode(f".{e}", picture[..., 0]) for e in ("jpg", "png", "tiff", "bmp", "webp")}
    files |= {f"16-bit {e}": encode(f".{e}", picture.astype(np.uint16) * 257) for e in ("png", "tiff")}
    alpha = np.dstack([picture, picture[..., 0]])
    files |= {f"alpha {e}": encode(f".{e}", alpha) for e in ("png", "webp", "tiff")}
    files |= {f"animated {e}": _animation(f".{e}", alpha) for e in ("gif", "webp", "png")}
    files["cmyk jpeg"] = CMYK_JPEG
    for orientation in range(1, 9):
        files[f"tiff turned {orientation}"] = raw_tiff(picture, orientation)
        for ending in ("jpg", "png", "webp"):
            turned = with_orientation(encode(f".{ending}", picture), orientation, "<>"[orientation % 2])
            files[f"{ending} turned {orientation}"] = turned
    return files


def _animation(ending: str, pixels: np.ndarray) -> bytes:
    animation = cv2.Animation()
    animation.frames = [pixels, pixels[::-1].copy()]
    animation.durations = np.array([100, 100])
    written, data = cv2.imencodeanimation(ending, animation)
    assert written
    return data.tobytes()


@cache
def huge_claims() -> dict[str, bytes]:
    """Returns small files that claim to be huge, by name."""
    jpeg = bytearray(good_files()["jpeg 301x207"])
    at = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, at + 5, 65_000, 65_000)
    gif, bmp = bytearray(good_files()["gif 301x207"]), bytearray(good_files()["bmp 301x207"])
    struct.pack_into("<HH", gif, 6, 65_000, 65_000)
    struct.pack_into("<ii", bmp, 18, 2**31 - 1, -(2**31 - 1))
    png = good_files()["png 301x207"]
    ihdr = png_chunk(b"IHDR", struct.pack(">II", 2**31 - 1, 2**31 - 1) + png[24:29])
    return {
        "30000x30000 png": hollow_png(30_000, 30_000),
        "huge jpeg": bytes(jpeg),
        "huge gif": bytes(gif),
        "huge bmp": bytes(bmp),
        "huge png": png[:8] + ihdr + png[33:],
    }


def hostile_images(seed: int, count: int) -> Iterator[HostileImage]:
    """Yields images, the same ones for the same seed: every good file and every huge claim first."""
    rng = random.Random(seed)  # noqa: S311 - a test that can be repeated wants a seed
    first = [HostileImage(f"whole {name}", only(FRAME), data) for name, data in good_files().items()]
    first += [HostileImage(name, only("IMAGE_TOO_LARGE"), data) for name, data in huge_claims().items()]
    first.append(HostileImage("no bytes", only("EMPTY_OBJECT"), b""))
    rng.shuffle(first)
    yield from first[:count]
    names = sorted(good_files())
    for _ in range(count - len(first)):
        name = rng.choice(names)
        yield rng.choice(_DAMAGES)(rng, name, good_files()[name])


def _cut(rng: random.Random, name: str, data: bytes) -> HostileImage:
    # The last bytes of a BMP or TIFF may be padding, which nobody misses.
    most = len(data) - 1 if name.startswith(("jpeg", "png", "gif", "webp")) else max(2, len(data) * 3 // 4)
    return HostileImage("cut", _cut_outcomes(name), data[: rng.randint(1, most)])


def _cut_outcomes(name: str) -> frozenset[str]:
    """An animation whose later frames are cut off still has its first one; only some formats tell."""
    return only(FRAME, "DECODE_FAILED") if name.startswith("animated") else REFUSED


def _flipped(rng: random.Random, name: str, data: bytes) -> HostileImage:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 8, 64))):
        at = rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 400))
        changed[at] ^= 1 << rng.randrange(8)
    return HostileImage("bits flipped", DAMAGED, bytes(changed))


def _wrong_beginning(rng: random.Random, name: str, data: bytes) -> HostileImage:
    beginning = rng.choice(
        (b"\0" * 12, b"%PDF-1.7\n\0\0\0", b"<html><body>", b"PK\3\4\0\0\0\0\0\0\0\0", b"ftypavif\0\0\0\0")
    )
    return HostileImage("of another kind", REFUSED, beginning + data[12:])


def _other_header(rng: random.Random, name: str, data: bytes) -> HostileImage:
    magic = rng.choice((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP"))
    return HostileImage("header of another format", DAMAGED, magic + data[len(magic) :])


def _zeros_at_the_end(rng: random.Random, name: str, data: bytes) -> HostileImage:
    kept = rng.randint(1, len(data) - 1)
    strict = "jpeg" in name or name.startswith(("png", "jpg"))
    rest = data[kept:]
    harmless = not any(rest)  # they were zeros before
    changed = data[:kept] + bytes(len(rest))
    return HostileImage("zeros at the end", only(FRAME) if harmless else REFUSED if strict else DAMAGED, changed)


def _two_files(rng: random.Random, name: str, data: bytes) -> HostileImage:
    other = good_files()[rng.choice(sorted(good_files()))]
    return HostileImage(
        "begins as one, ends as another", DAMAGED, data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
    )


def _more_behind(rng: random.Random, name: str, data: bytes) -> HostileImage:
    return HostileImage("bytes behind the end", only(FRAME), data + rng.randbytes(rng.randint(1, 500)))


def _random_bytes(rng: random.Random, name: str, data: bytes) -> HostileImage:
    return HostileImage(
        "random behind the header", DAMAGED, data[: rng.randint(12, 60)] + rng.randbytes(rng.randint(0, 3000))
    )


def _odd_exif(rng: random.Random, name: str, data: bytes) -> HostileImage:
    block = bytearray(exif_block(rng.randint(0, 65_535), rng.choice("<>")))
    for _ in range(rng.randint(0, 6)):
        block[rng.randrange(len(block))] = rng.randrange(256)
    body = b"Exif\0\0" + bytes(block)
    jpeg = good_files()["jpeg 160x120"]
    changed = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]
    return HostileImage("nonsense in the EXIF block", only(FRAME), changed)


_DAMAGES: tuple[Callable[[random.Random, str, bytes], HostileImage], ...] = (
    *(_cut, _cut, _flipped, _flipped, _wrong_beginning, _other_header, _zeros_at_the_end),
    *(_two_files, _more_behind, _random_bytes, _odd_exif),
)
