"""Images for browsers, and thumbnails that are made once and cached in a bounded folder."""

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from imgpipeline.errors import BadInputError, ConfigurationError
from imgpipeline.lake.query.images import image_error
from imgpipeline.lake.storage.cache import default_cache_dir, trim_folder
from imgpipeline.lake.storage.engine import disk_errors
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.vision.annotate import encode_jpeg, read_pixels

THUMBNAIL_SIDE = 360
"""Longer side of a thumbnail in pixels."""
_QUALITY = 80
_MOST_BYTES = 512 * 2**20
_MOST_FILES = 50_000
_TRIM_EVERY = 200
_STRIPES = 64
_SHOWN = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}
"""Media types by first bytes. Images of other types are converted to JPEG, so no other type is ever sent."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to send to a browser."""

    data: bytes
    media_type: str

    @property
    def e_tag(self) -> str:
        """Identifies the content."""
        return sha256(self.data).hexdigest()[:32]


@dataclass(slots=True)
class Pictures:
    """The images of a store. Thread-safe."""

    store: ObjectStore
    settings: Settings
    folder: Path = field(default_factory=lambda: default_cache_dir().parent / "thumbnails")
    """Cache of thumbnails; may be deleted at any time."""
    most_bytes: int = _MOST_BYTES
    """Size limit of the folder; the least recently used thumbnails are deleted first."""
    made: int = 0
    _locks: tuple[threading.Lock, ...] = field(default_factory=lambda: tuple(threading.Lock() for _ in range(_STRIPES)))

    def image(self, frame: Mapping[str, Any]) -> Picture:
        """Returns the image of a row of `frames`, converted to JPEG if browsers do not support its format.

        Raises:
            PermanentError: The image is gone, may not be read, or cannot be decoded.
            TransientError: The store does not answer.
        """
        return self.stored(self._path(frame), f"the frame {frame['frame_id']}")

    def stored(self, path: str, of: str) -> Picture:
        """Returns a stored image; errors as `image`, and they name its owner `of`.

        The path comes from a frame or an event, never from a request.
        """
        reader = ImageReader(self.store, self.settings)
        with _image_errors(of):
            data = reader.read(path).data
            for first, media_type in _SHOWN.items():
                if data.startswith(first):
                    return Picture(bytes(data), media_type)
            return Picture(encode_jpeg(read_pixels(reader, path)), "image/jpeg")

    def thumbnail(self, frame: Mapping[str, Any]) -> Picture:
        """Returns a small JPEG of the image that is currently stored, made once; errors as `image`."""
        version = self._version(frame)
        parts = [self.store.url, self._path(frame), frame["day"].isoformat(), frame["frame_id"], version]
        key = sha256("\n".join(parts).encode()).hexdigest()
        kept = self.folder / f"{key[:40]}.jpg"
        with self._locks[int(key[:8], 16) % _STRIPES], disk_errors(self.folder):
            try:
                data = kept.read_bytes()
                os.utime(kept)
            except FileNotFoundError:
                data = self._make(frame)
                if self._version(frame) == version:  # otherwise it may show an image that replaced this one
                    _write(kept, data)
                    if self.made == 1 or self.made % _TRIM_EVERY == 0:
                        trim_folder(self.folder, self.most_bytes, _MOST_FILES)
        return Picture(data, "image/jpeg")

    def _version(self, frame: Mapping[str, Any]) -> str:
        """Returns the version of the stored image, which changes if another image replaces it."""
        with _image_errors(f"the frame {frame['frame_id']}"):
            return ImageReader(self.store, self.settings).version(self._path(frame))

    def _make(self, frame: Mapping[str, Any]) -> bytes:
        with _image_errors(f"the frame {frame['frame_id']}"):
            pixels = read_pixels(ImageReader(self.store, self.settings), self._path(frame))
        self.made += 1
        return encode_jpeg(pixels, THUMBNAIL_SIDE, _QUALITY)

    def _path(self, frame: Mapping[str, Any]) -> str:
        if not frame["source_image_path"]:
            raise ConfigurationError(f"The frame {frame['frame_id']} was imported without an image.")
        return str(frame["source_image_path"])


@contextmanager
def _image_errors(of: str) -> Iterator[None]:
    """Turns the error of an image that cannot be shown into one that names its owner."""
    try:
        yield
    except BadInputError as error:
        raise image_error(of, error) from None


def _write(kept: Path, data: bytes) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=kept.parent, prefix="making-")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(name).replace(kept)
