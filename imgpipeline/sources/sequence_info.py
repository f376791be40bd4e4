"""Reads `seqinfo.ini`, in which a sequence of the MOT Challenge states its name, frame rate and image size."""

import configparser
from pathlib import Path

from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.options import parse_size

USUAL_RATE = 25.0
"""Frames per second of a sequence without a rate."""
_INFO = "seqinfo.ini"


class SequenceInfo:
    """The content of one `seqinfo.ini`."""

    def __init__(self, path: Path) -> None:
        """Reads the file; raises a ConfigurationError if that fails."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8-sig")
            self._said = parser["Sequence"]
        except (configparser.Error, KeyError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"{path} cannot be read: {error}.", next_step="expected [Sequence] with name, imDir and frameRate"
            ) from None
        self.path = path
        self.name = self._said.get("name") or path.parent.resolve().name
        self.image_folder = self._said.get("imDir") or "img1"

    @property
    def rate(self) -> float | None:
        """Frames per second; None if unknown. Raises a ConfigurationError for a rate that no sequence has."""
        text = self._said.get("frameRate")
        try:
            rate = float(text) if text else None
        except ValueError:
            rate = 0.0
        if rate is not None and not 0 < rate <= 1000:
            raise ConfigurationError(
                f"{self.path}: frameRate is {text}, expected more than 0 and at most 1,000.", next_step="correct it"
            )
        return rate

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the images in pixels; None if unknown. Raises a ConfigurationError for another value."""
        width, height = self._said.get("imWidth"), self._said.get("imHeight")
        try:
            return parse_size(f"{width}x{height}") if width and height else None
        except ValueError as error:
            raise ConfigurationError(
                f"{self.path}: imWidth and imHeight: {error}.", next_step="correct them, or give --size"
            ) from None


def find_info(*folders: Path) -> SequenceInfo | None:
    """Reads the `seqinfo.ini` of the first folder that has one; raises a ConfigurationError if that fails."""
    return next((SequenceInfo(folder / _INFO) for folder in folders if (folder / _INFO).is_file()), None)
