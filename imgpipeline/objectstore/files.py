"""The input and output files of commands.

An input is a file, a folder, a glob, or a prefix or glob in an S3 bucket. A location means the same files on disk and
in a bucket: `*`, `?` and `[…]` match within one part of a path, `**` matches any number of parts. Files are listed in
the byte order of their full names. An output file appears complete or not at all, so a failure keeps the old file.
"""

import bz2
import contextlib
import glob
import gzip
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

import zstandard

from imgpipeline.contracts.urls import as_s3_url
from imgpipeline.errors import ConfigurationError, PermanentError, UsageError
from imgpipeline.objectstore.client import ObjectInfo, ObjectStore, open_bucket
from imgpipeline.objectstore.reading import open_object
from imgpipeline.settings import Settings

STDOUT = "-"
_SURE_MODE = 0o666


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects the files of a location."""

    endings: tuple[str, ...] = ()
    """Endings of the files to take from a folder or prefix; empty: take all files."""
    hidden: tuple[str, ...] = ()
    """Files and folders whose names begin with one of these are skipped, unless the location names them."""
    globs_take_folders: bool = False
    """Whether to take the files in a folder that a glob matches."""

    def is_hidden(self, name: str) -> bool:
        """Returns whether a file or folder of this name is skipped."""
        return bool(self.hidden) and name.startswith(self.hidden)

    def takes(self, name: str) -> bool:
        """Returns whether this file of a folder or prefix is taken."""
        return not self.endings or name.endswith(self.endings)


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read."""

    name: str
    """Path below the location; the file's name if the location is the file. Bytes that are not UTF-8 are escaped."""
    where: str
    """Full path or URL, for messages; escaped in the same way."""
    size_bytes: int
    path: Path | None
    """Path on this machine; None for an object in a bucket."""
    open_raw: Callable[[], io.BufferedReader]
    """Opens the stored bytes. May be called repeatedly; each call fetches an object that is not large as a whole."""


def find_inputs(location: str, settings: Settings, selection: Selection) -> list[InputFile]:
    """Lists the files of a location.

    Args:
        location: A file, a folder, a glob, or `s3://bucket/prefix` (or `s3a://`), which may be a glob too.
        settings: Name the S3 server and its credentials.
        selection: Selects the files of a folder, prefix or glob.

    Returns:
        The files in the byte order of their full names; none for a folder or prefix without a selected file.

    Raises:
        ConfigurationError: The file, folder, prefix or bucket does not exist or cannot be read.
        TransientError: The store does not answer.
    """
    location = as_s3_url(location)
    if location.startswith("s3://"):
        return _find_objects(location, settings, selection)
    path = Path(location)
    try:
        is_folder, is_there = path.is_dir(), path.is_symlink() or path.exists()
    except OSError as error:
        raise _unreadable(path, error) from None
    if is_folder:
        return [_local(file, path) for file in _ordered(_files_below(path, selection))]
    if is_there:
        return [_local(path, path.parent)]
    if not glob.has_magic(location):
        raise _missing(location)
    # If the selection hides files, match all of them here, so that its rule decides and not that of `glob`.
    found = glob.glob(location, recursive=True, include_hidden=bool(selection.hidden))  # noqa: PTH207 - takes `**` and whole paths
    if not found:
        raise _missing(location)
    is_hidden, below = _hidden_beside(location, selection), Path(_fixed_part(location))
    files = {file for match in map(Path, found) for file in _matched(match, selection)}
    return [_local(file, below) for file in _ordered(files) if not is_hidden(str(file.relative_to(below)))]


def open_decompressed(raw: io.BufferedReader, ending: str) -> io.BufferedReader:
    """Returns a stream of the decompressed file.

    The ending is a name that ends in `.gz`, `.bz2` or `.zst`; with any other ending, `raw` is returned.
    """
    if ending.endswith(".gz"):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    if ending.endswith(".bz2"):
        return io.BufferedReader(bz2.BZ2File(raw))
    if ending.endswith(".zst"):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return raw


def _ordered(files: "set[Path] | list[Path]") -> list[Path]:
    return sorted(files, key=os.fsencode)


def _matched(match: Path, selection: Selection) -> list[Path]:
    if not match.is_dir():
        return [match]
    return _files_below(match, selection) if selection.globs_take_folders else []


def _files_below(folder: Path, selection: Selection) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise _unreadable(error.filename, error) from error

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not selection.is_hidden(name)]
        files += [Path(parent, name) for name in names if not selection.is_hidden(name) and selection.takes(name)]
    return [file for file in files if file.is_file()]


def _local(path: Path, folder: Path) -> InputFile:
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None
    name = path.relative_to(folder).as_posix()
    return InputFile(_as_text(name), _as_text(str(path.absolute())), size_bytes, path, lambda: path.open("rb"))


def _unreadable(path: Path | str, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{path} cannot be read: {error.strerror}.", next_step="make it readable for this user, or exclude it"
    )


def _as_text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _find_objects(location: str, settings: Settings, selection: Selection) -> list[InputFile]:
    bucket, _, pattern = location.removeprefix("s3://").partition("/")
    if not bucket:
        raise _missing(location)
    store = open_bucket(settings, bucket)
    is_glob, fixed = glob.has_magic(pattern), _fixed_part(pattern).strip("/")
    named = store.head(fixed) if fixed and not is_glob else None
    if named is not None:
        return [_object(store, named, named.key.rpartition("/")[2])]
    matches, is_hidden = _compile(pattern.rstrip("/"), selection), _hidden_beside(pattern, selection)
    found = [
        _object(store, info, name)
        for info in sorted(store.list_objects(fixed), key=lambda info: info.key.encode())
        if matches(info.key)
        and not is_hidden(name := info.key[len(fixed) :].lstrip("/"))
        and not info.key.endswith("/")
    ]
    if not found:  # a bucket has no empty folders
        raise _missing(location)
    return found if is_glob else [file for file in found if selection.takes(file.name)]


def _object(store: ObjectStore, info: ObjectInfo, name: str) -> InputFile:
    return InputFile(name, f"{store.url}/{info.key}", info.size_bytes, None, lambda: open_object(store, info))


def _missing(location: str) -> ConfigurationError:
    return ConfigurationError(
        f"There is nothing to read at {location}.", next_step="name a file, a folder, a glob or s3://bucket/prefix"
    )


def _fixed_part(pattern: str) -> str:
    """Returns the folder above the first wildcard of a glob; any other location unchanged."""
    return re.split(r"[*?[]", pattern)[0].rpartition("/")[0] if glob.has_magic(pattern) else pattern


def _hidden_beside(pattern: str, selection: Selection) -> Callable[[str], bool]:
    """Returns a function that tells whether a path is hidden: a part of it is, and the location does not name it."""
    named = [part for part in pattern.split("/") if selection.is_hidden(part)]
    return lambda path: any(
        selection.is_hidden(part) and not any(fnmatchcase(part, name) for name in named) for part in path.split("/")
    )


def _compile(pattern: str, selection: Selection) -> Callable[[str], object]:
    """Returns a function that tells whether a key matches a glob, or is below a prefix or a matched folder."""
    tokens = re.findall(r"\*\*/?|\*|\?|\[!?\]?[^\]]*\]|[^*?[]+|\[", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

    def translated(token: str) -> str:
        if token in known:
            return known[token]
        if len(token) > 2 and token.startswith("["):
            inner = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            return f"[{'^' + inner[1:] if inner.startswith('!') else inner.replace('^', chr(92) + '^')}]"
        return re.escape(token)

    takes_below = selection.globs_take_folders or not glob.has_magic(pattern)
    below = ("(?:/.*)?" if pattern else ".*") if takes_below else ""
    return re.compile("".join(map(translated, tokens)) + below, re.DOTALL).fullmatch


@contextlib.contextmanager
def open_output(output: str, inputs: Sequence[InputFile] = (), *, option: str = "--output") -> Iterator[BinaryIO]:
    """Opens the output of a command.

    Args:
        output: A file's path, or `-` for stdout.
        inputs: The command's input files; the output must not be one of them.
        option: The option that names the output, for messages.

    Yields:
        A binary stream; a file can also be read through it.

    Raises:
        ConfigurationError: The folder is missing or not writable, or the output is a folder, a pipe or a device, which
            must not be replaced by a file.
        UsageError: The output is an address, such as s3://bucket/key, or one of the inputs.
        PermanentError: The disk is full.
    """
    if output == STDOUT:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    _refuse_output(output, path, inputs, option)
    path = path.resolve()  # a link stays a link
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ConfigurationError(
            f"The output {output} cannot be written: {error.strerror}.",
            next_step=f"name a file with {option}, in a folder that this user may write",
        ) from error
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            with _disk_errors(output):
                file.flush()
                os.fchmod(descriptor, _SURE_MODE & ~_umask())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _refuse_output(output: str, path: Path, inputs: Sequence[InputFile], option: str) -> None:
    if "://" in output:
        raise UsageError(
            f"The output {output} is an address; only a file on this machine, or {STDOUT} for stdout, can be written.",
            next_step=f"name a file with {option}, or write to a bucket: `{option} {STDOUT} | aws s3 cp - s3://BUCKET/KEY`",
        )
    if any(file.path and path.exists() and path.samefile(file.path) for file in inputs):
        raise UsageError(
            f"The output {output} is one of the files to read.", next_step=f"name another file with {option}"
        )
    if path.is_dir():
        raise ConfigurationError(
            f"The output {output} is a folder, not a file.", next_step=f"name a file with {option}"
        )
    if path.exists() and not path.is_file():
        raise ConfigurationError(
            f"The output {output} is a pipe or a device, not a file.",
            next_step=f"write to stdout: `{option} - > {output}`",
        )


@contextlib.contextmanager
def _disk_errors(output: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PermanentError(
            f"{output} cannot be written: {error.strerror}.", next_step="free space on that disk"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write(stream: BinaryIO, data: bytes) -> None:
    """Writes data; raises PermanentError if the disk is full, BrokenPipeError if the reader of the pipe is gone."""
    try:
        stream.write(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise PermanentError(
            f"The output cannot be written: {error.strerror}.", next_step="free space on its disk"
        ) from error
