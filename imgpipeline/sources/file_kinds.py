"""What a file is by its first bytes, never by its name: an image, a video, or something else.

Sources of the signatures: ISO/IEC 14496-12 (`ftyp`), the Matroska specification, RFC 9649 (RIFF), ISO/IEC 13818-1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imgpipeline.vision.header import image_format

HEAD_BYTES: Final = 512
"""How many bytes from the start of a file `describe_other` needs."""
_PACKET_BYTES: Final = 188
"""Of an MPEG transport stream; each packet starts with a `G`."""
_HEIF_BRANDS: Final = (b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_STARTS: Final = (
    (b"\x1a\x45\xdf\xa3", "it is a video (Matroska or WebM)"),
    (b"FLV", "it is a video (Flash)"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "it is a video (ASF or WMV)"),
    (b"\x00\x00\x01\xba", "it is a video (MPEG)"),
    (b"\x00\x00\x01\xb3", "it is a video (MPEG)"),
    (b"%PDF", "it is a PDF document"),
    (b"PK\x03\x04", "it is a ZIP archive"),
    (b"\x1f\x8b", "it is a gzip file"),
)


@dataclass(frozen=True, slots=True)
class OtherFile:
    """A file that is not an image of a known format."""

    what: str
    """For a person, such as `it is a video (MP4 or QuickTime)`."""
    next_step: str
    """What the user can do with it."""


def describe_other(head: bytes, path: Path) -> OtherFile | None:
    """Returns what a file is if it is not an image.

    Args:
        head: Its first `HEAD_BYTES` bytes, or all of it.
        path: Its path, for the next step only.

    Returns:
        None for an image of a known format, even if it is damaged: the pipeline records that as a dead letter.
    """
    if image_format(head) is not None:
        return None
    what = _kind_of(head)
    if what.startswith("it is a video"):
        return OtherFile(
            what,
            f"`imgpipeline ingest video {path}`; or `imgpipeline demo --video {path}` to see it counted in a demo",
        )
    if what.startswith("it is a HEIF"):
        return OtherFile(what, "convert it to JPEG or PNG and ingest that")
    return OtherFile(what, "name an image (JPEG, PNG, WebP, GIF, BMP or TIFF), or a folder with images")


def _kind_of(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head[4:8] == b"ftyp":
        return "it is a HEIF or AVIF picture" if head[8:12] in _HEIF_BRANDS else "it is a video (MP4 or QuickTime)"
    if head[4:8] in (b"moov", b"mdat", b"wide"):
        return "it is a video (MP4 or QuickTime)"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "it is a video (AVI)"
    if head[:1] == b"G" and head[_PACKET_BYTES : _PACKET_BYTES + 1] == b"G":
        return "it is a video (MPEG transport stream)"
    known = next((what for start, what in _STARTS if head.startswith(start)), None)
    return known or f"it starts with {head[:8].hex(' ')}, like no known image format"
