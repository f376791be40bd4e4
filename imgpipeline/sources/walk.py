"""Which files of a folder are images, and in which order.

Every file is listed exactly once, among the images or among the skipped ones; a hidden folder is listed as a whole.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from imgpipeline.contracts.counts import counted
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.file_kinds import HEAD_BYTES, OtherFile, describe_other

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Files with these endings, in upper or lower case, are ingested if they are images."""
HIDDEN = "hidden"
"""The reason why a hidden file or folder was skipped."""
_ADDED_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not announced."""

    path: str
    """Path below the folder."""
    reason: str
    """Why, for a person."""


def find_pictures(path: Path) -> tuple[list[Path], list[Skipped]]:
    """Returns the images of a folder in the order of their paths, and the other files.

    Files are chosen by their names; their content is checked only until the first image is found. Links to folders are
    not followed. Hidden files and folders below `path` are left out.

    Raises:
        ConfigurationError: There is no such file or folder, it may not be read, or it holds files but no image.
    """
    if path.is_file():
        if other := other_than_image(path):
            raise ConfigurationError(f"{path} is not an image: {other.what}.", next_step=other.next_step)
        return [path], []
    pictures: list[Path] = []
    skipped: list[Skipped] = []

    def refuse(error: OSError) -> None:
        raise ConfigurationError(
            f"{error.filename} cannot be read: {error.strerror}.", next_step="name a folder that this user may read"
        ) from error

    for folder, folders, names in os.walk(path, onerror=refuse):
        hidden = [name for name in folders if is_hidden(name)]
        skipped += [Skipped(f"{path_below(path, Path(folder) / name)}/", HIDDEN) for name in hidden]
        folders[:] = [name for name in folders if name not in hidden]
        for name in names:
            file = Path(folder) / name
            if is_hidden(name):
                skipped.append(Skipped(path_below(path, file), HIDDEN))
            elif file.suffix.lower() not in IMAGE_ENDINGS:
                skipped.append(Skipped(path_below(path, file), f"not one of {', '.join(IMAGE_ENDINGS)}"))
            elif not file.is_file():
                skipped.append(Skipped(path_below(path, file), "not a file"))
            else:
                pictures.append(file)
    others = [*pictures, *(path / skip.path for skip in skipped if skip.reason != HIDDEN)]
    if others and all(other_than_image(file) for file in pictures):
        raise _no_image(path, others)
    return sorted(pictures, key=lambda file: path_below(path, file)), sorted(skipped, key=lambda s: s.path)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or is one that Windows or macOS add to folders of images."""
    return name.startswith(".") or name.lower() in _ADDED_BY_SYSTEMS


def other_than_image(file: Path) -> OtherFile | None:
    """Returns what a file is; None for an image, and for a file that cannot be read."""
    try:
        with file.open("rb") as opened:
            return describe_other(opened.read(HEAD_BYTES), file)
    except OSError:
        return None


def _no_image(path: Path, others: list[Path]) -> ConfigurationError:
    formats = ", ".join(IMAGE_ENDINGS)
    first = min(others)
    other = other_than_image(first)
    found = f"such as {path_below(path, first)}" + (f" ({other.what})" if other else "")
    return ConfigurationError(
        f"{path} holds no images ({formats}), only {counted(len(others), 'other file')}, {found}.",
        next_step=other.next_step if other else "name a folder with images",
    )


def path_below(folder: Path, file: Path) -> str:
    """Returns a file's path below the folder, or its name if the "folder" is the file itself."""
    return file.relative_to(folder).as_posix() if file != folder else file.name
