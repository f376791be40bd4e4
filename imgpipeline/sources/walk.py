"""Which files of a folder are pictures, and in which order.

Owns walking the folder. It promises every file exactly once: among the pictures or among the skipped ones. What is
in a picture does not belong here.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from imgpipeline.errors import ConfigurationError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Files with these endings, in whatever case, are ingested."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not announced."""

    path: str
    """Path below the folder."""
    reason: str
    """Why, for a person."""


def find_pictures(path: Path) -> tuple[list[Path], list[Skipped]]:
    """Returns the pictures of a folder in the order of their paths, and the other files.

    Links to folders are not followed.

    Raises:
        ConfigurationError: There is no such folder, or it may not be read.
    """
    if path.is_file():
        return [path], []
    pictures: list[Path] = []
    skipped: list[Skipped] = []

    def refuse(error: OSError) -> None:
        raise ConfigurationError(
            f"{error.filename} cannot be read: {error.strerror}.", next_step="name a folder that this user may read"
        ) from error

    for folder, _, names in os.walk(path, onerror=refuse):
        for name in names:
            file = Path(folder) / name
            if file.suffix.lower() not in IMAGE_ENDINGS:
                skipped.append(Skipped(path_below(path, file), f"not one of {', '.join(IMAGE_ENDINGS)}"))
            elif not file.is_file():
                skipped.append(Skipped(path_below(path, file), "not a file"))
            else:
                pictures.append(file)
    return sorted(pictures, key=lambda file: path_below(path, file)), sorted(skipped, key=lambda s: s.path)


def path_below(folder: Path, file: Path) -> str:
    """Returns a file's path below the folder, or its name where it was named itself."""
    return file.relative_to(folder).as_posix() if file != folder else file.name
